# shellcheck shell=bash
# Sourced after cuda-toolkit.sh: NVIDIA's libraries to link with, in one folder, `libraries`: those of the toolkit where it has them, else from PyPI
# (some 2 GB). The driver is a stand-in that knows no device, as a machine without a GPU has none; programs take the real one where they run.
#
# Ends the script with exit code 3 if there are none and they cannot be installed.
libraries=$environment/link
folders=("$CUDA_HOME"/lib*)
if [[ $CUDA_HOME == "$environment"/* ]] || ! compgen -G "$CUDA_HOME/lib*/libcublas.so*" > /dev/null; then
    install libraries "nvidia-cublas==$version.*" "nvidia-cuda-nvrtc==$version.*" nvidia-curand nvidia-cudnn-cu13 || {
        echo "$(basename "$0"): cannot install NVIDIA's libraries into $environment" >&2
        exit 3
    }
    folders=("$environment"/lib/python3*/site-packages/nvidia/{cu13,cudnn}/lib)
else
    # Toolkits come without cuDNN; it lies with the system's libraries, or beside PyTorch.
    for packages in $(python3 -c 'import sys; print(*[path for path in sys.path if path.endswith("-packages")])' || true); do
        folders+=("$packages/nvidia/cudnn/lib")
    done
    folders+=(/usr/lib/*-linux-gnu /usr/lib64)
fi
mkdir -p "$libraries"
# Linkers look for libX.so, where PyPI has libX.so.N.
for folder in "${folders[@]}"; do
    for library in "$folder"/lib{cublas,cublasLt,cudart,curand,nvrtc,cudnn}*.so.*; do
        name=$(basename "$library")
        if [ ! -e "$library" ] || [ -e "$libraries/$name" ]; then continue; fi
        ln -sf "$library" "$libraries/$name"
        ln -sf "$library" "$libraries/${name%%.so*}.so"
    done
done
# Every function of the driver that cudarc knows answers that there is no device (CUDA_ERROR_NO_DEVICE, 100).
cargo fetch --quiet
sources=("${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/cudarc-*/src/driver/sys/mod.rs)
grep -ohE 'fn cu[A-Z][A-Za-z0-9_]*' "${sources[@]}" | sort -u | sed 's/^fn \(.*\)$/int \1(void) { return 100; }/' > "$libraries/driver.c"
cc -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$libraries/libcuda.so.1" "$libraries/driver.c"
ln -sf libcuda.so.1 "$libraries/libcuda.so"
export LIBRARY_PATH=$libraries
