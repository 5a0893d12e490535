#!/usr/bin/env bash
# Compiles everything that only a CUDA build has, on a machine without a GPU: candle's kernels by nvcc, ft's own code by clippy.
# Nothing is linked and nothing runs. The compiler comes from PyPI into a Python environment of its own.
#
#   scripts/check-cuda.sh                      # both feature sets, as CI does
#   scripts/check-cuda.sh cuda,cudnn,nccl      # others
#
# CUDA_COMPUTE_CAP   architecture that candle's kernels are compiled for (80: Ampere)
# FT_CUDA_ENV        where the environment lies (target/cuda-env); kept, so that a second run needs no network
# CUDA_HOME          a toolkit that is there already: then nothing is installed
#
# Exit codes: 0 all compiled; 3 there is no compiler and none could be installed; else that of cargo.
set -euo pipefail
cd "$(dirname "$0")/.."

version=13.0
environment=${FT_CUDA_ENV:-$PWD/target/cuda-env}
if [ -z "${CUDA_HOME:-}" ]; then
    if [ ! -e "$environment/complete-$version" ]; then
        { python3 -m venv "$environment" &&
            "$environment/bin/pip" install --quiet --disable-pip-version-check \
                "nvidia-cuda-nvcc==$version.*" "nvidia-cuda-runtime==$version.*" "nvidia-cuda-cccl==$version.*" \
                "nvidia-nvvm==$version.*" "nvidia-cuda-crt==$version.*"; } || {
            echo "check-cuda: cannot install nvcc $version into $environment; set CUDA_HOME to a toolkit that is there" >&2
            exit 3
        }
        touch "$environment/complete-$version"
    fi
    CUDA_HOME=$(echo "$environment"/lib/python3*/site-packages/nvidia/cu13)
fi
[ -x "$CUDA_HOME/bin/nvcc" ] || { echo "check-cuda: no nvcc in $CUDA_HOME/bin" >&2; exit 3; }
# Build scripts look for a toolkit under several names.
export CUDA_HOME CUDA_PATH=$CUDA_HOME CUDA_ROOT=$CUDA_HOME CUDA_TOOLKIT_ROOT_DIR=$CUDA_HOME
export PATH=$CUDA_HOME/bin:$PATH CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80}

[ $# -gt 0 ] || set -- cuda cuda,cudnn
for features in "$@"; do
    echo "check-cuda: cargo clippy --all-targets --features $features (nvcc $version, compute capability $CUDA_COMPUTE_CAP)"
    cargo clippy --all-targets --features "$features" -- -D warnings
done
echo "check-cuda: compiled; nothing was linked or run"
