#!/usr/bin/env bash
# Common part of dist_train.sh and dist_test.sh: PROCESSES TOOL [arguments of TOOL].
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
tools=$(cd "$(dirname "$0")" && pwd)
if [ "${NNODES:-1}" = 1 ] && [ -z "${PORT:-}" ]; then
    place=(--standalone)  # picks a free port
else
    place=(--nnodes "${NNODES:-1}" --node-rank "${NODE_RANK:-0}"
           --master-addr "${MASTER_ADDR:-127.0.0.1}"
           --master-port "${PORT:-29500}")
fi
PYTHONPATH=$tools/..${PYTHONPATH:+:$PYTHONPATH} exec python -m \
    torch.distributed.run "${place[@]}" --nproc-per-node "$1" \
    "$tools/$2" "${@:3}" --launcher pytorch
