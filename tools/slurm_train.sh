#!/usr/bin/env bash
# Train on a Slurm cluster:
#   tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of tools/train.py]
# Optional variables (defaults): GPUS (8), GPUS_PER_NODE (GPUS, at most 8), CPUS_PER_TASK (5), SRUN_ARGS.
# Example: tools/slurm_train.sh gpu b2 configs/mamba_adaptor_b2_imagenet.py work_dirs/b2
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,5s/^# \?//p' "$0"; exit ;; esac
[ $# -ge 4 ] || { sed -n '2,5s/^# \?//p' "$0"; exit 2; } >&2
tools=$(cd "$(dirname "$0")" && pwd)
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
# SRUN_ARGS is split into words.
# shellcheck disable=SC2086
PYTHONPATH=$tools/..${PYTHONPATH:+:$PYTHONPATH} exec srun -p "$1" \
    --job-name "$2" --gres "gpu:$per_node" --ntasks "$gpus" \
    --ntasks-per-node "$per_node" --cpus-per-task "${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    python -u "$tools/train.py" "$3" --work-dir "$4" "${@:5}" --launcher slurm
