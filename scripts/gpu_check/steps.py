"""The steps of the check. Each returns False if it is left out, and raises what stands in its way."""

import csv
import glob
import hashlib
import json
import math
import os
import re
import shutil
import struct

import machine
from record import Failed

HERE = os.path.dirname(os.path.abspath(__file__))

# Limits of differences are ten times what rounding alone does to the same training on the processor, at least and at most so much.
LOSSES = (1e-4, 0.05)
PROBABILITIES = (1e-3, 0.1)
# The same weights on both devices: nothing has time to grow.
SAME_WEIGHTS = 1e-4
SAME_MAPS = 1e-3


class Size:
    """How much is computed: enough for a GPU, or little enough for the emulated device."""

    def __init__(self, short, batch):
        self.short = short
        self.data = ["--data", "petals?train=8&val=4&test=4", "--set", "train.batch_size=8"] if short else []
        self.epochs = 3 if short else 8
        self.photos = "4" if short else "12"
        self.rates = "10" if short else "40"
        self.image, self.steps = (32, 1) if short else (224, 6)
        self.batch = batch or (2 if short else None)

    def batches(self, memory_gb):
        """The large batch, as memory allows, and that of the recipes."""
        large = self.batch or next((batch for batch, least in ((128, 20), (64, 10)) if memory_gb >= least), 32)
        return large, 32


def facts(step):
    """What there is; whether the program fits the machine."""
    check = step.check
    computer, program, gpus = machine.computer(), machine.program(check.binary), machine.gpus()
    path = check.environment.get("LD_LIBRARY_PATH", "")
    libraries = machine.linked(check.binary, path)
    if libraries is None:
        step.notes.append("ldd cannot tell which libraries the program needs")
        libraries = {}
    named = {name: os.path.realpath(file) if file else None for name, file in libraries.items()}
    cuda = {name: file for name, file in named.items() if file is None or any(word in name for word in ("cu", "nv"))}
    step.figures = {"computer": computer, "gpus": gpus or [], "program": program, "libraries": cuda, "library_path": path}
    step.require("the program was built with CUDA", machine.is_for_cuda(check.binary), "build it with --features cuda,cudnn")
    missing = [name for name, file in named.items() if file is None]
    step.require("all its libraries are there", not missing, "missing: " + ", ".join(missing))
    if check.options.emulated:
        step.notes.append("on the emulated device: no GPU was asked for")
        return
    step.require("nvidia-smi shows a GPU", gpus, "it shows none, or there is no such program")
    kernels = re.findall(r"sm_(\d+)(a?)", " ".join(program["kernels"]))
    capabilities = [round(10 * machine.number(gpu["compute_cap"])) for gpu in gpus or []]
    if kernels and any(capabilities):
        has = min(filter(None, capabilities))
        # What is for 90a runs on 90 only; what is for 80 runs on everything from there on.
        fits = all(int(of) == has if only else int(of) <= has for of, only in kernels)
        names = ", ".join("".join(kernel) for kernel in kernels)
        step.require(f"its kernels (compute capability {names}) fit the GPU ({has})", fits, f"build it with CUDA_COMPUTE_CAP={has}")


def doctor_quick(step):
    doctor(step, ["--quick"])


def doctor_full(step):
    doctor(step, [])


def doctor(step, form):
    done = step.command([step.check.binary, "doctor", *form, "--device", "cuda", "--json"])
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise Failed(f"ft doctor gave no result: {done.failure()}") from None
    # All that was compared would fill the report.
    found["checks_off"] = [one for one in found.pop("checks") if not one["ok"]]
    if found["ok"]:
        found["facts"] = {key: found["facts"][key] for key in ("features", "levels", "instructions", "devices")}
    step.figures = found
    step.require(
        f"{len(found['operations'])} rows of operations and {len(found['steps'])} training steps are within their limits",
        found["ok"],
        ", ".join(found["off"]),
    )


def training(step):
    """A training in f32 on both devices; the processor does it once more with other instructions, to see what rounding does."""
    beside_processor(step, "f32", reference="cpu-f32", other="portable-f32")
    runs = step.check.runs
    there, here = (probabilities(step, runs["cuda-f32"], device) for device in ("cuda", "cpu"))
    step.compare("f32: probabilities of the same weights on both devices", apart(there, here), SAME_WEIGHTS, f"{len(here)} photos")


def other_numbers(step):
    """The same in bf16 on both, and in tf32 on the GPU, which the processor has not."""
    beside_processor(step, "bf16", reference="cpu-bf16", other="portable-bf16")
    # tf32 has three more bits than bf16, so it must not be further from f32 than bf16 is.
    beside_processor(step, "tf32", reference="cpu-f32", other="cpu-bf16", times=1)


def beside_processor(step, precision, reference, other, times=10):
    """Compares a training on the GPU with one on the processor. What another one there differs by, so many times, is the limit."""
    size = step.check.size
    # The GPU's before the other one: later steps need it.
    runs = [trained(step, name) for name in (reference, f"cuda-{precision}", other)]
    cpu, cuda, rounding = map(epochs, runs)
    step.figures.setdefault("trainings", {})[precision] = [
        {
            "epoch": a["epoch"],
            "cpu": losses(a),
            "cuda": losses(b),
            "difference": far([b], [a]),
            "rounding_difference": far([c], [a]),
        }
        for a, b, c in zip(cpu, cuda, rounding)
    ]
    rates = {device: result(run)["train_images_per_second"] for device, run in zip(("cpu", "cuda"), runs)}
    step.figures.setdefault("images_per_second", {})[precision] = rates
    step.require(f"{precision}: all {size.epochs} epochs were trained", len(cuda) == len(cpu) == size.epochs)
    of_all = "largest of all epochs, training and validation"
    step.compare(f"{precision}: losses, relative to the processor's", far(cuda, cpu), limit(times * far(rounding, cpu), LOSSES), of_all)
    a, b, c = (probabilities(step, run, device) for run, device in zip(runs, ("cpu", "cuda", "cpu")))
    what = f"{precision}: probabilities of test photos after the training"
    step.compare(what, apart(b, a), limit(times * apart(c, a), PROBABILITIES), f"{same_class(a, b)} of {len(a)} photos get the same class")


def limit(rounding, bounds):
    least, most = bounds
    return min(max(rounding, least), most) if rounding == rounding else most


def recipe(step, runs, device, precision):
    size = step.check.size
    more = ["--seed", "1", "--precision", precision, "--device", device, "--runs", runs, "--json"]
    return ["recipe", "petals-transfer", *size.data, "--epochs", size.epochs, *more]


def trained(step, name):
    """The folder of a run, DEVICE-PRECISION, that is trained if it has not been; the device `portable` is the processor without its best instructions."""
    runs = step.check.runs
    if name not in runs:
        device, precision = name.split("-")
        portable = device == "portable"
        # One that was stopped at a time limit is in nobody's way.
        shutil.rmtree(os.path.join(step.check.work, name), ignore_errors=True)
        step.ft(*recipe(step, name, "cpu" if portable else device, precision), environment={"FT_INSTRUCTIONS": "portable"} if portable else None)
        runs[name] = only_run(step, name)
    return runs[name]


def only_run(step, runs):
    found = glob.glob(os.path.join(step.check.work, runs, "*", "recipe.toml"))
    if len(found) != 1:
        raise Failed(f"{len(found)} runs in {runs} instead of one")
    return os.path.dirname(found[0])


def epochs(run):
    with open(os.path.join(run, "metrics.csv"), newline="") as file:
        return list(csv.DictReader(file))


def result(run):
    with open(os.path.join(run, "result.json")) as file:
        return json.load(file)


def losses(row):
    return [float(row[key]) if row[key] else math.nan for key in ("train_loss", "val_loss")]


def far(rows, others):
    """Largest relative difference of losses; no number if one is none."""
    return largest(relative(a, b) for row, other in zip(rows, others) for a, b in zip(losses(row), losses(other)))


def relative(value, other):
    return abs(value - other) / max(abs(other), 1e-12)


def largest(values):
    """`max` would lose what is no number."""
    values = list(values)
    return math.nan if not values or any(value != value for value in values) else max(values)


def probabilities(step, run, device):
    """Of each test photo by the last weights of a run, in f32: the probability of each class."""
    photos = glob.glob(os.path.join(step.check.environment["FT_CACHE"], "data", "petals-*", "photos", "test"))
    if len(photos) != 1:
        raise Failed("the drawn photos for the test are not in the cache")
    last = os.path.join(run, "last.safetensors")
    done = step.ft("predict", "--model", last, "--device", device, "--precision", "f32", "--top", "99", "--json", *photos)
    return [{one["class"]: one["probability"] for one in photo["top"]} for photo in json.loads(done.stdout)["predictions"]]


def apart(photos, others):
    if len(photos) != len(others):
        return math.nan
    return largest(abs(a[name] - b.get(name, math.nan)) for a, b in zip(photos, others) for name in a)


def same_class(photos, others):
    return sum(max(a, key=a.get) == max(b, key=b.get) for a, b in zip(photos, others))


def grad_cam(step):
    """Raw maps of one model on both devices."""
    # The GPU's model, or the processor's if there is none.
    name = "cuda-f32" if "cuda-f32" in step.check.runs else "cpu-f32"
    run = trained(step, name)
    step.notes.append(f"of the model {name}")
    folders = {}
    for device in ("cpu", "cuda"):
        step.ft(
            "explain",
            "--model",
            run,
            "--device",
            device,
            "--method",
            "gradcam",
            "--count",
            step.check.size.photos,
            "--out",
            f"maps-{device}",
            "--json",
        )
        folders[device] = os.path.join(step.check.work, f"maps-{device}")
    maps = {
        device: {os.path.relpath(file, folder): array(file) for file in glob.glob(os.path.join(folder, "**", "*.npy"), recursive=True)}
        for device, folder in folders.items()
    }
    step.require(f"the same {len(maps['cpu'])} photos are explained", maps["cpu"] and maps["cpu"].keys() == maps["cuda"].keys())
    rows = []
    for file in sorted(maps["cpu"].keys() & maps["cuda"].keys()):
        (shape, cpu), (other_shape, cuda) = maps["cpu"][file], maps["cuda"][file]
        top = max(map(abs, cpu)) or 1.0
        difference = largest(abs(a - b) for a, b in zip(cpu, cuda)) / top if shape == other_shape else math.nan
        rows.append({"map": file, "shape": shape, "largest": top, "difference": difference})
    step.figures["maps"] = rows
    step.compare("Grad-CAM maps, relative to a map's largest value", largest(row["difference"] for row in rows), SAME_MAPS, f"{len(rows)} raw maps")


def array(file):
    """Shape and values of a `.npy` file of `float32`, without NumPy."""
    with open(file, "rb") as stream:
        content = stream.read()
    length = struct.unpack("<H", content[8:10])[0]
    header = content[10 : 10 + length].decode()
    if content[:8] != b"\x93NUMPY\x01\x00" or "'<f4'" not in header or "'fortran_order': False" not in header:
        raise Failed(f"{file} is no array of float32: {header}")
    shape = [int(part) for part in header.split("(")[1].split(")")[0].split(",") if part.strip()]
    values = content[10 + length :]
    return shape, struct.unpack(f"<{len(values) // 4}f", values)


def resume(step):
    """A training on the GPU that gets Ctrl-C goes on, and ends as the one that nobody stopped."""
    check = step.check
    whole = trained(step, "cuda-f32")
    runs = "stopped"
    step.ft(*recipe(step, runs, "cuda", "f32"), stop_at="epoch   1:" if check.size.short else "epoch   3:")
    run = only_run(step, runs)
    before = len(epochs(run))
    stopped = result(run)["interrupted"] and before < check.size.epochs
    step.require(f"Ctrl-C stopped it before its end, after {before} of {check.size.epochs} epochs", stopped)
    step.ft("resume", run, "--runs", runs, "--device", "cuda", "--json")
    rows, others = epochs(whole), epochs(run)
    step.require("all epochs are there", len(rows) == len(others), f"{len(others)} of {len(rows)}")
    step.compare("losses before it was stopped, of two trainings of one seed", far(rows[:before], others[:before]), LOSSES[0], "0: bit for bit")
    step.compare("losses after it was resumed", far(rows[before:], others[before:]) if before < len(rows) else math.nan, LOSSES[0], "0: bit for bit")
    same = digest(whole) == digest(run)
    step.figures = {"stopped_after": before, "epochs": len(others), "same_weights_to_the_last_bit": same}
    step.notes.append("the last weights are the same to the last bit" if same else "the last weights differ in some bits")


def digest(run):
    with open(os.path.join(run, "last.safetensors"), "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def learning_rates(step):
    """The curve of `ft lr-find` on both devices, as far as its losses are those of a training that has not gone out of bounds."""
    size = step.check.size
    curves = []
    for device in ("cpu", "cuda"):
        plot = f"rates-{device}.png"
        done = step.ft("lr-find", "petals-transfer", *size.data, "--steps", size.rates, "--seed", "1", "--device", device, "--plot", plot, "--json")
        curves.append(json.loads(done.stdout))
    cpu, cuda = ([point["loss"] for point in curve["points"]] for curve in curves)
    half = len(cpu) // 2
    step.figures = {"cpu": curves[0], "cuda": curves[1]}
    step.compare(
        "losses of the smaller half of the rates, relative",
        largest(relative(a, b) for a, b in zip(cuda[:half], cpu[:half])),
        LOSSES[0],
        f"{half} rates",
    )


NETWORKS = [("resnet50v2", "conv4"), ("resnet50", "none")]
PRECISIONS = ["f32", "tf32", "bf16"]


def configurations(step, batch):
    size = step.check.size
    return [
        {"model": model, "freeze_before": before, "precision": numbers, "batch": batch, "size": size.image, "steps": size.steps}
        for model, before in NETWORKS
        for numbers in PRECISIONS
    ]


def bench(step):
    benches(step, step.check.size.batches(memory(step))[0])


def bench_small(step):
    large, small = step.check.size.batches(memory(step))
    if step.check.size.short or large == small:
        step.notes.append("the batch is the large one's")
        return False
    return benches(step, small)


def memory(step):
    """GiB that are free on the GPU that has least of it."""
    gpus = next((other.figures.get("gpus") for other in step.check.steps if other.name == "machine"), None)
    return min((machine.number(gpu["memory.free"]) / 1024 for gpu in gpus or []), default=0.0)


def benches(step, batch):
    """Every network in every precision; one that fails does not keep the others from being measured."""
    rows = step.figures["benches"] = []
    for number, one in enumerate(configurations(step, batch)):
        share = step.left() / (len(NETWORKS) * len(PRECISIONS) - number)
        names = ["model", "freeze_before", "size", "batch", "steps", "precision"]
        arguments = [word for name in names for word in ("--" + name.replace("_", "-"), one[name])]
        # What the GPU can do at most takes some seconds to find out: with one network only.
        more = ["--roofline"] if one["model"] == NETWORKS[0][0] and step.name == "bench" and not step.check.size.short else []
        # One that hangs must leave some time to the rest.
        row = {**one, "failure": "no time was left for it"}
        if share > 1:
            done = step.command([step.check.binary, "bench", *arguments, *more, "--device", "cuda", "--json"], limit=max(2 * share, 5))
            row.update({"failure": None, **json.loads(done.stdout)} if done.ok else {"failure": done.failure()})
        if row["failure"]:
            step.problems.append(f"{one['model']}, {one['precision']}: {row['failure']}")
        rows.append(row)


def torch(step):
    """PyTorch's training steps of the same networks."""
    check = step.check
    device = check.options.torch_device
    asked = [check.options.python, os.path.join(HERE, "peer_torch.py"), "--device", device]
    # PyTorch finds its own libraries; those that ft was given may be others.
    environment = {"LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", "")}
    there = step.command([*asked, "--check"], environment=environment)
    if there.exit_code == 3:
        step.commands[-1]["failed"] = False
        step.notes.append(there.stderr.strip())
        return False
    if not there.ok:
        raise Failed(f"PyTorch cannot be asked: {there.failure()}")
    step.figures["torch"] = json.loads(there.stdout)
    done = step.command([*asked, json.dumps(configurations(step, check.size.batches(memory(step))[0]))], environment=environment)
    rows = step.figures["benches"] = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    step.problems += [f"{row['model']}, {row['precision']}: {row['failure']}" for row in rows if row["failure"]]
    if not done.ok:
        step.problems.append(f"PyTorch's steps: {done.failure()}")


# Name, title, seconds at most, work. Correctness first, then speed, then what takes all that is left.
ALL = [
    ("machine", "Machine and program", 30, facts),
    ("doctor", "Every operation, short form", 60, doctor_quick),
    ("training", "A training beside the processor's", 60, training),
    ("grad-cam", "Grad-CAM beside the processor's", 30, grad_cam),
    ("resume", "A training that is stopped and resumed", 45, resume),
    ("lr-find", "Learning rates beside the processor's", 30, learning_rates),
    ("bench", "Training speed", 120, bench),
    ("torch", "PyTorch on the same GPU", 80, torch),
    ("precision", "Trainings in bf16 and tf32", 60, other_numbers),
    ("bench-small", "Training speed with the recipes' batch", 60, bench_small),
    ("doctor-full", "Every operation, at full size", 240, doctor_full),
]
