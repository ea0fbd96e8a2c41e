#!/usr/bin/env bash
# Tests in PROCESSES processes, one a GPU, or on the CPU where there is none:
#   tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py]
# On several machines run it on each, with NNODES, NODE_RANK and MASTER_ADDR set.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,4s/^# \?//p' "$0"; exit 2; } >&2
exec "$(dirname "$0")/dist_run.sh" "$3" test.py "$1" "$2" "${@:4}"
