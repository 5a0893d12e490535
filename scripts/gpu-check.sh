#!/usr/bin/env bash
# Checks ft on an NVIDIA GPU in less than 8 minutes: correctness beside the processor, speed beside PyTorch; then writes one JSON file and one page.
# Needs the driver, CUDA's libraries (a toolkit, or those that pip installs with PyTorch) and Python 3.8; no network if ft is there already.
#
#   scripts/gpu-check.sh                                   # takes target/…/ft if it was built with CUDA, else builds it
#   scripts/gpu-check.sh --binary FILE --out DIR           # a program that was built elsewhere (scripts/carry-cuda.sh)
#   scripts/gpu-check.sh --emulated --short                # without a GPU, after scripts/emulate-cuda.sh
#
# docs/GPU-CHECK.md says how to read what it writes. Exit codes: 0 all steps passed; 1 one did not, and the others were run all the same; 2 wrong usage.
set -euo pipefail
python=${PYTHON:-$(command -v python3 || command -v python)} || { echo "gpu-check: there is no Python 3; set PYTHON" >&2; exit 2; }
exec "$python" -B "$(dirname "$0")/gpu_check" "$@"
