"""What scripts/gpu-check.sh runs: all steps, one JSON file, one page. Needs Python 3.8 and nothing else."""

import argparse
import gzip
import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import machine
import page
import record
import steps

HERE = os.path.dirname(os.path.abspath(__file__))
PROJECT = os.path.dirname(os.path.dirname(HERE))

# On the emulated device everything takes longer.
PATIENCE = 20


class Check:
    """All of it."""

    def __init__(self, options, binary):
        self.options = options
        self.size = steps.Size(options.short, options.batch)
        self.out = os.path.abspath(options.out)
        os.makedirs(self.out, exist_ok=True)
        self.work = tempfile.mkdtemp(prefix="gpu-check-")
        self.binary = runnable(binary, self.work)
        self.started = time.time()
        self.deadline = time.monotonic() + options.seconds
        self.runs, self.steps = {}, []
        self.log_file = open(os.path.join(self.out, "gpu-check.log"), "w")
        # The doctor is a step of its own; it must not stop the others at their first use of the device.
        self.environment = {**os.environ, "FT_CACHE": os.path.join(self.work, "cache"), "FT_DOCTOR": "never"}
        path, self.libraries = machine.library_path(self.binary, options.libraries, [options.python, sys.executable, "python3", "python"])
        if path:
            self.environment["LD_LIBRARY_PATH"] = path

    def log(self, step, command, done):
        """Everything that a command said."""
        self.log_file.write(f"== {step}: {command['command']}\n{done.stderr}")
        # Results are in the report.
        if not done.stdout.startswith("{"):
            self.log_file.write(done.stdout)
        self.log_file.write(f"== {'ok' if done.ok else done.failure()}, {done.seconds:.1f} s\n\n")
        self.log_file.flush()

    def run(self):
        for name, title, limit, work in steps.ALL:
            step = record.Step(self, name, title, self.options.limits.get(name, limit * self.options.patience))
            self.steps.append(step)
            if (self.options.only and name not in self.options.only) or (self.size.short and name == "doctor-full"):
                step.verdict = "left out"
                continue
            print(f"gpu-check: {title} …", file=sys.stderr, flush=True)
            step.run(work)
            print(f"gpu-check: {title}: {step.verdict}, {step.seconds:.1f} s", file=sys.stderr, flush=True)
            # After each, so that a machine that is taken away leaves what there was.
            self.write()

    def write(self):
        """Writes both files; whether all is well."""
        passed = len(self.steps) == len(steps.ALL) and all(step.verdict in ("passed", "left out") for step in self.steps)
        report = {
            "format": 1,
            "passed": passed,
            "complete": len(self.steps) == len(steps.ALL),
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.started)),
            "seconds": round(time.time() - self.started, 1),
            "emulated": self.options.emulated,
            "short": self.size.short,
            "arguments": sys.argv[1:],
            "steps": [step.report() for step in self.steps],
        }
        replace(os.path.join(self.out, "gpu-check.json"), json.dumps(finite(report), indent=1, allow_nan=False) + "\n")
        replace(os.path.join(self.out, "gpu-check.html"), page.page(report))
        return passed

    def end(self):
        self.log_file.close()
        shutil.rmtree(self.work, ignore_errors=True)


def runnable(binary, folder):
    """The program itself: unpacked if it is compressed, and with the permission that it may have lost on its way."""
    unpack = {".gz": gzip.open, ".xz": lzma.open}.get(os.path.splitext(binary)[1])
    if unpack is None and os.access(binary, os.X_OK):
        return binary
    copy = os.path.join(folder, "ft")
    with (unpack or open)(binary, "rb") as source, open(copy, "wb") as target:
        shutil.copyfileobj(source, target)
    os.chmod(copy, 0o755)
    return copy


def replace(file, text):
    with open(file + ".part", "w") as stream:
        stream.write(text)
    os.replace(file + ".part", file)


def finite(value):
    """JSON has no number for what is none."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and (value != value or abs(value) == float("inf")) else value


def options():
    names = [name for name, *_ in steps.ALL]
    parser = argparse.ArgumentParser(
        prog="scripts/gpu-check.sh", description="Checks and measures ft on an NVIDIA GPU, in less than 8 minutes. docs/GPU-CHECK.md says more."
    )
    parser.add_argument(
        "--binary",
        metavar="FILE",
        default=os.environ.get("FT_BINARY"),
        help="ft, built with CUDA; may be compressed (.xz, .gz) [default: FT_BINARY, else the newest of target/, else it is built]",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        default=os.path.join(PROJECT, "target", "gpu-check"),
        help="where gpu-check.json, .html and .log go [default: target/gpu-check]",
    )
    parser.add_argument("--seconds", metavar="N", type=float, help="for all steps together [default: 450]")
    parser.add_argument("--limit", metavar="STEP=SECONDS", action="append", default=[], help="another time limit for a step: " + ", ".join(names))
    parser.add_argument("--only", metavar="STEP[,STEP…]", default="", help="these steps only")
    parser.add_argument("--batch", metavar="N", type=int, help="images of a step of the measurements [default: 128, or less as the memory allows]")
    parser.add_argument("--short", action="store_true", help="tiny inputs, and no doctor at full size")
    parser.add_argument("--libraries", metavar="DIR", action="append", default=[], help="a folder with CUDA's libraries to look in first")
    parser.add_argument("--python", metavar="FILE", default=sys.executable, help="the Python that has PyTorch [default: the one that runs this]")
    parser.add_argument("--torch-device", metavar="DEVICE", default="cuda", help="cpu to try PyTorch's part without a GPU")
    parser.add_argument("--emulated", action="store_true", help="on the emulated device of scripts/emulate-cuda.sh, where no GPU is")
    chosen = parser.parse_args()
    chosen.patience = PATIENCE if chosen.emulated else 1
    chosen.seconds = chosen.seconds or 450 * chosen.patience
    chosen.only = [name for name in chosen.only.split(",") if name]
    try:
        chosen.limits = {name: float(seconds) for name, seconds in (limit.split("=") for limit in chosen.limit)}
    except ValueError:
        parser.error("--limit takes STEP=SECONDS")
    unknown = [name for name in [*chosen.only, *chosen.limits] if name not in names]
    if unknown:
        parser.error(f"there is no step {unknown[0]}; there are {', '.join(names)}")
    if chosen.emulated:
        chosen.libraries.insert(0, os.path.join(os.environ.get("FT_CUDA_ENV", os.path.join(PROJECT, "target", "cuda-env")), "emulated"))
    chosen.libraries = [os.path.abspath(folder) for folder in chosen.libraries]
    if chosen.binary and not os.path.isfile(chosen.binary):
        parser.error(f"--binary {chosen.binary}: there is no such file")
    return chosen


def find_binary(chosen):
    """The program: one that was named, the newest that was built with CUDA, or a new one."""
    if chosen.binary:
        return os.path.abspath(chosen.binary)
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(PROJECT, "target"))
    there = [os.path.join(target, folder, "ft") for folder in ("carry", "release", "debug")]
    there = sorted((file for file in there if os.path.isfile(file) and machine.is_for_cuda(file)), key=os.path.getmtime)
    if there:
        print(f"gpu-check: takes {there[-1]}", file=sys.stderr)
        return there[-1]
    print("gpu-check: there is no ft with CUDA; building it, which takes some ten minutes and does not count", file=sys.stderr)
    built = subprocess.run(["bash", os.path.join(PROJECT, "scripts", "carry-cuda.sh")], cwd=PROJECT)
    file = os.path.join(target, "carry", "ft")
    if built.returncode != 0 or not os.path.isfile(file):
        sys.exit("gpu-check: ft could not be built with CUDA; name one that was built elsewhere with --binary (docs/GPU-CHECK.md)")
    return file


def main():
    chosen = options()
    check = Check(chosen, find_binary(chosen))
    # As Ctrl-C does: what is running is ended, and what there was is written.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        check.run()
    finally:
        passed = check.write()
        check.end()
    for step in check.steps:
        print(f"{step.verdict:10} {step.seconds:7.1f} s  {step.title}")
    print(os.path.join(check.out, "gpu-check.html"))
    sys.exit(0 if passed else 1)


main()
