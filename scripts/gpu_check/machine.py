"""The machine, the program, and CUDA's libraries: what there is, and where."""

import glob
import hashlib
import os
import platform
import re
import shutil
import subprocess
import time

# Folders of a toolkit and of the driver.
FOLDERS = [
    "/usr/local/cuda/lib64",
    "/usr/local/cuda-*/lib64",
    "/usr/local/cuda*/targets/*/lib",
    "/usr/local/nvidia/lib64",
    "/usr/local/nvidia/lib",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib/wsl/lib",
    "/opt/cuda/lib64",
]


def answer(arguments, environment=None, seconds=15):
    """What a command prints; none if there is no such command, or it fails."""
    try:
        done = subprocess.run(arguments, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def library_folders(first, pythons):
    """Where CUDA's libraries may lie: folders that were named, toolkits, packages of pip, the driver's."""
    patterns = list(first)
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(name):
            patterns += [os.path.join(os.environ[name], part) for part in ("lib64", "lib")]
    for root in packages(pythons):
        patterns += [os.path.join(root, "nvidia", "*", "lib")]
    patterns += FOLDERS
    found = []
    for pattern in patterns:
        for folder in sorted(glob.glob(pattern), reverse=True):
            if os.path.isdir(folder) and folder not in found:
                found.append(folder)
    return found


def packages(pythons):
    """Folders with the packages of some Pythons, and of an environment that is active."""
    roots = []
    for python in pythons:
        there = answer([python, "-c", "import sys; print(chr(10).join(sys.path))"])
        roots += [path for path in (there or "").splitlines() if path.endswith("-packages")]
    if os.environ.get("VIRTUAL_ENV"):
        roots += glob.glob(os.path.join(os.environ["VIRTUAL_ENV"], "lib", "python3*", "site-packages"))
    return list(dict.fromkeys(roots))


def linked(binary, path):
    """Libraries of a program: name and file, or none where the file is missing. None if `ldd` cannot tell."""
    text = answer(["ldd", binary], {**os.environ, "LD_LIBRARY_PATH": path})
    if text is None:
        return None
    lines = re.findall(r"^\s*(\S+) => (not found|\S+)", text, re.M)
    return {name: None if file == "not found" else file for name, file in lines}


def library_path(binary, first, pythons):
    """LD_LIBRARY_PATH with which a program finds all its libraries, as far as they are there, and the libraries."""
    parts = list(first) + [part for part in os.environ.get("LD_LIBRARY_PATH", "").split(":") if part]
    folders = library_folders(first, pythons)
    while True:
        path = ":".join(parts)
        libraries = linked(binary, path)
        missing = [name for name, file in (libraries or {}).items() if file is None]
        # Stubs only serve to link.
        better = next((folder for folder in folders for name in missing if folder not in parts and os.path.exists(os.path.join(folder, name))), None)
        if better is None:
            return path, libraries
        parts.append(better)


def is_for_cuda(file):
    """Whether a program was built with CUDA: it then names the driver's library."""
    return holds(file, rb"libcuda\.so") is not None


def holds(file, pattern):
    """All places of a file that fit a pattern, each once; none if there is none."""
    with open(file, "rb") as stream:
        found = sorted(set(re.findall(pattern, stream.read())))
    return found or None


def program(binary):
    """Facts about the program."""
    with open(binary, "rb") as stream:
        digest = hashlib.sha256(stream.read()).hexdigest()
    return {
        "path": binary,
        "version": answer([binary, "--version"]) or "it does not start",
        "bytes": os.path.getsize(binary),
        "sha256": digest,
        "built": time.strftime("%Y-%m-%d %H:%M", time.localtime(os.path.getmtime(binary))),
        "kernels": [text.decode() for text in holds(binary, rb"\.target sm_[0-9a-z]+") or []],
        "assembly": [text.decode() for text in holds(binary, rb"\.version [0-9]+\.[0-9]+\n") or []],
    }


def gpus():
    """What `nvidia-smi` says of each GPU; none if it says nothing."""
    keys = ["name", "driver_version", "memory.total", "memory.free", "compute_cap", "clocks.max.sm", "power.limit"]
    # Old ones do not know all of it, and then answer nothing at all.
    for some in (keys, keys[:4]):
        text = answer(["nvidia-smi", "--query-gpu=" + ",".join(some), "--format=csv,noheader,nounits"], seconds=30)
        if text:
            return [{**dict.fromkeys(keys, "unknown"), **dict(zip(some, (cell.strip() for cell in line.split(","))))} for line in text.splitlines()]
    return None


def number(text):
    """A number; 0 if it is none, as where `nvidia-smi` does not know."""
    try:
        return float(text)
    except ValueError:
        return 0.0


def computer():
    """Facts about the rest of the machine."""
    cpu = re.search(r"^model name\s*:\s*(.*)$", read("/proc/cpuinfo"), re.M)
    memory = re.search(r"^MemTotal:\s*(\d+)", read("/proc/meminfo"), re.M)
    smi = answer(["nvidia-smi"], seconds=30) or ""
    cuda = re.search(r"CUDA Version:\s*([0-9.]+)", smi)
    nvcc = re.search(r"release ([0-9.]+)", answer([shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc", "--version"]) or "")
    return {
        "system": platform.platform(),
        "processor": cpu.group(1) if cpu else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(memory.group(1)) / 1e6, 1) if memory else None,
        "python": platform.python_version(),
        "glibc": " ".join(platform.libc_ver()),
        "driver_supports_cuda": cuda.group(1) if cuda else None,
        "nvcc": nvcc.group(1) if nvcc else None,
    }


def read(file):
    try:
        with open(file, errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""
