#!/usr/bin/env bash
# Test in PROCESSES processes, one per GPU, or on the CPU if there is no GPU:
#   tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py]
# For multiple machines, run on each with NNODES, NODE_RANK and MASTER_ADDR set.
# Example: tools/dist_test.sh configs/mamba_adaptor_b0_shapes.py trained/mamba_adaptor_b0_shapes.safetensors 2
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,5s/^# \?//p' "$0"; exit ;; esac
[ $# -ge 3 ] || { sed -n '2,5s/^# \?//p' "$0"; exit 2; } >&2
exec "$(dirname "$0")/dist_run.sh" "$3" test.py "$1" "$2" "${@:4}"
