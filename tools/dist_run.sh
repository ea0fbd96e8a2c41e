#!/usr/bin/env bash
# Common part of dist_train.sh and dist_test.sh:
#   tools/dist_run.sh PROCESSES TOOL [arguments of TOOL]
# Example: tools/dist_run.sh 2 train.py configs/mamba_adaptor_b0_shapes.py
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,4s/^# \?//p' "$0"; exit ;; esac
[[ ${1:-} =~ ^([1-9][0-9]*|auto|gpu|cpu)$ ]] || {
    echo "error: PROCESSES must be an integer of 1 or more, got '${1:-}'." >&2; exit 2; }
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
