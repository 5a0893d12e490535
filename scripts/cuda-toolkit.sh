# shellcheck shell=bash
# Sourced by the scripts beside it: a CUDA toolkit for a machine without a GPU, from PyPI, in a Python environment of its own.
#
# CUDA_COMPUTE_CAP   architecture that candle's kernels are compiled for (80: Ampere)
# FT_CUDA_ENV        where the environment lies (target/cuda-env); kept, so that a second run needs no network
# CUDA_HOME          a toolkit that is there already: then nothing is installed
#
# Ends the script with exit code 3 if there is no compiler and none can be installed.
version=13.0
environment=${FT_CUDA_ENV:-$PWD/target/cuda-env}

# Installs packages, once for each name.
install() {
    local name=$1
    shift
    [ ! -e "$environment/$name-$version" ] || return 0
    { [ -d "$environment/bin" ] || python3 -m venv "$environment"; } &&
        "$environment/bin/pip" install --quiet --disable-pip-version-check "$@" &&
        touch "$environment/$name-$version"
}

if [ -z "${CUDA_HOME:-}" ]; then
    install complete "nvidia-cuda-nvcc==$version.*" "nvidia-cuda-runtime==$version.*" "nvidia-cuda-cccl==$version.*" \
        "nvidia-nvvm==$version.*" "nvidia-cuda-crt==$version.*" || {
        echo "$(basename "$0"): cannot install nvcc $version into $environment; set CUDA_HOME to a toolkit that is there" >&2
        exit 3
    }
    CUDA_HOME=$(echo "$environment"/lib/python3*/site-packages/nvidia/cu13)
fi
[ -x "$CUDA_HOME/bin/nvcc" ] || { echo "$(basename "$0"): no nvcc in $CUDA_HOME/bin" >&2; exit 3; }
# Build scripts look for a toolkit under several names.
export CUDA_HOME CUDA_PATH=$CUDA_HOME CUDA_ROOT=$CUDA_HOME CUDA_TOOLKIT_ROOT_DIR=$CUDA_HOME
export PATH=$CUDA_HOME/bin:$PATH CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80}
