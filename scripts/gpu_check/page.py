"""The page: every figure and every failure of a report, in one HTML file that needs nothing else."""

import html

STYLE = """
:root { --text: #1c2024; --soft: #60646c; --line: #d9d9e0; --back: #ffffff; --panel: #f6f6f8; --good: #18794e; --bad: #c62a2f; --mild: #8a6100 }
@media (prefers-color-scheme: dark) { :root { --text: #edeef0; --soft: #a5a8ae; --line: #3a3d42; --back: #131416; --panel: #1d1f22; --good: #3dd68c; --bad: #ff9592; --mild: #ffca16 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 70rem; padding: 2rem 1.25rem 4rem; background: var(--back); color: var(--text); font: 15px/1.5 system-ui, sans-serif }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem } h3 { font-size: 1rem; margin: 1.4rem 0 .4rem }
p { margin: .4rem 0 } .soft { color: var(--soft) } a { color: inherit }
.passed { color: var(--good) } .failed, .timed { color: var(--bad) } .left, .not { color: var(--mild) } .verdict { font-weight: 600; white-space: nowrap }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums } th, td { padding: .25rem .9rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line) }
th { font-weight: 600; color: var(--soft) } td.number, th.number { text-align: right; white-space: nowrap }
pre { background: var(--panel); border-left: 3px solid var(--line); padding: .6rem .8rem; overflow-x: auto; font: 12.5px/1.45 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere } pre.failed { border-color: var(--bad); color: var(--text) }
details { margin: .6rem 0 } summary { cursor: pointer; color: var(--soft) }
"""


def page(report):
    steps = {step["name"]: step for step in report["steps"]}
    parts = [heading(report, steps), overview(report)]
    for step in filter(has_section, report["steps"]):
        draw = DRAWN.get(step["name"])
        try:
            figures = draw(step, steps) if draw and step["figures"] else ""
        except (KeyError, IndexError, TypeError, ValueError) as error:  # Half of a step's figures are better than no page.
            figures = f"<p class=failed>Some figures cannot be shown ({text(repr(error))}); gpu-check.json has them.</p>"
        parts.append(section(step, figures))
    title = "ft on the emulated device" if report["emulated"] else "ft on a GPU"
    return f"<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n<meta name=viewport content='width=device-width, initial-scale=1'>\n<title>{title}</title>\n<style>{STYLE}</style>\n{''.join(parts)}</html>\n"


def has_section(step):
    """Whether there is anything to say of it."""
    return any(step[key] for key in ("commands", "comparisons", "figures", "problems", "notes"))


def text(value):
    return html.escape(str(value))


def number(value, form="{:.4g}"):
    return "–" if value is None or value != value else form.format(value)


def rate(value):
    return number(value, "{:,.1f}")


def table(columns, rows):
    """A table; columns that begin with > are numbers. Cells are HTML."""
    if not rows:
        return ""
    kinds = [" class=number" if column.startswith(">") else "" for column in columns]
    head = "".join(f"<th{kind}>{text(column.lstrip('>'))}</th>" for kind, column in zip(kinds, columns))
    body = "".join("<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row)) + "</tr>\n" for row in rows)
    return f"<div class=wide><table><tr>{head}</tr>\n{body}</table></div>\n"


def verdict(word):
    return f"<span class='verdict {word.split()[0]}'>{text(word)}</span>"


def folded(title, inside, is_open=False):
    return f"<details{' open' if is_open else ''}><summary>{text(title)}</summary>\n{inside}</details>\n" if inside else ""


def heading(report, steps):
    figures = steps.get("machine", {}).get("figures", {})
    gpus = figures.get("gpus") or []
    if report["emulated"]:
        name, where = (
            "the emulated device",
            "Nothing ran on a GPU: the kernels ran on the processor, behind a stand-in for NVIDIA's libraries. Speeds mean nothing here.",
        )
    elif gpus:
        name, where = gpus[0]["name"], f"driver {gpus[0]['driver_version']}"
    else:
        name, where = "a machine without a GPU", "nvidia-smi shows none"
    bad = [step for step in report["steps"] if step["verdict"] not in ("passed", "left out")]
    if not report["complete"]:
        said = "<p class=failed><b>The check has not come to its end.</b></p>"
    elif bad:
        said = (
            f"<p class=failed><b>{len(bad)} of {len(report['steps'])} steps did not pass:</b> "
            + ", ".join(f"<a href='#{step['name']}'>{text(step['title'])}</a>" for step in bad)
            + "</p>"
        )
    else:
        done = [step for step in report["steps"] if step["verdict"] == "passed"]
        said = f"<p class=passed><b>All {len(done)} steps that were run passed.</b></p>"
    form = ", short form" if report["short"] else ""
    return f"<h1>ft on {text(name)}</h1>\n<p class=soft>{text(where)} · {text(report['started'].replace('T', ' ').replace('Z', ' UTC'))} · {report['seconds']:.0f} s{form}</p>\n{said}\n"


def overview(report):
    rows = []
    for step in report["steps"]:
        bad = [wrong(one) for one in step["comparisons"] if not one["passed"]] + [problem.splitlines()[0] for problem in step["problems"]]
        remark = "; ".join(bad or step["notes"])
        title = f"<a href='#{step['name']}'>{text(step['title'])}</a>" if has_section(step) else text(step["title"])
        rows.append(
            [
                title,
                verdict(step["verdict"]),
                number(step["seconds"], "{:.1f}"),
                number(step["limit"], "{:.0f}"),
                text(remark),
            ]
        )
    return table(["step", "", ">seconds", ">at most", ""], rows)


def wrong(one):
    if one["limit"] is None:
        return f"not so: {one['what']}"
    return f"{one['what']}: {number(one['value'], '{:.2g}')}, limit {number(one['limit'], '{:.2g}')}"


def section(step, figures):
    problems = "".join(f"<pre class=failed>{text(problem)}</pre>\n" for problem in step["problems"])
    notes = "".join(f"<p class=soft>{text(note[:1].upper() + note[1:])}.</p>\n" for note in step["notes"])
    rows = [
        [
            text(one["what"]),
            number(one["value"], "{:.2g}"),
            number(one["limit"], "{:.2g}"),
            verdict("passed" if one["passed"] else "failed"),
            f"<span class=soft>{text(one['note'])}</span>",
        ]
        for one in step["comparisons"]
    ]
    logs = "".join(f"<pre class=failed>$ {text(one['command'])}\n{text(one['end_of_log'])}</pre>\n" for one in step["commands"] if one["failed"])
    commands = table(
        ["command", ">exit code", ">seconds"],
        [[f"<code>{text(shortened(one['command']))}</code>", one["exit_code"], number(one["seconds"], "{:.1f}")] for one in step["commands"]],
    )
    return (
        f"<h2 id='{step['name']}'>{text(step['title'])} {verdict(step['verdict'])}</h2>\n{problems}{notes}"
        f"{table(['comparison', '>difference', '>limit', '', ''], rows)}{figures}{folded('Ends of the logs of what failed', logs, True)}{folded('Commands', commands)}"
    )


def shortened(command):
    """Hundreds of photos are no help."""
    return command if len(command) < 600 else command[:400] + " … " + command[-100:]


def machine(step, steps):
    figures = step["figures"]
    computer, program = figures["computer"], figures["program"]
    rows = []
    for number_of, gpu in enumerate(figures["gpus"]):
        rows.append(
            [
                f"GPU {number_of}",
                text(
                    f"{gpu['name']}, compute capability {gpu['compute_cap']}, {gpu['memory.total']} MiB, {gpu['memory.free']} MiB free, {gpu['clocks.max.sm']} MHz at most, {gpu['power.limit']} W"
                ),
            ]
        )
        rows.append(["driver", text(f"{gpu['driver_version']}, for CUDA up to {computer['driver_supports_cuda'] or 'unknown'}")])
    rows += [
        ["processor", text(f"{computer['processor']}, {computer['cores']} cores, {computer['memory_gb']} GB")],
        ["system", text(f"{computer['system']}, {computer['glibc']}, Python {computer['python']}, nvcc {computer['nvcc'] or 'not there'}")],
        ["program", text(f"{program['version']}, {program['bytes'] / 1e6:.1f} MB, built {program['built']}, {program['path']}")],
        ["its kernels", text(", ".join(program["kernels"] + program["assembly"]).replace("\n", "") or "none")],
        ["its SHA-256", f"<code>{program['sha256']}</code>"],
    ]
    libraries = table(["library", "file"], [[text(name), text(file or "missing")] for name, file in sorted(figures["libraries"].items())])
    return table(["", ""], rows) + folded("CUDA's libraries", libraries)


def doctor(step, steps):
    found = step["figures"]
    forms = {}
    for row in found["operations"]:
        forms.setdefault(row["form"], []).append(row)
    cases = sum(row["cases"] for row in found["operations"])
    values = sum(row["compared"] for row in found["operations"])
    said = f"<p>{cases:,} results, {values:,} values, {len(found['steps'])} training steps in {found['seconds']:.0f} s.</p>\n"
    refused = "".join(f"<pre class=failed>{text(one['what'])}: {text(one['error'])}</pre>\n" for one in found["refused"])
    tables = ""
    for form, rows in forms.items():
        cells = [
            [
                text(row["op"]),
                row["cases"],
                f"{row['compared']:,}",
                number(row["worst"]["error"], "{:.1e}"),
                number(row["worst"]["limit"], "{:.1e}"),
                verdict("passed" if row["ok"] else "failed"),
                text(row["case"]),
            ]
            for row in rows
        ]
        tables += f"<h3>{text(form)}</h3>" + table(["operation", ">cases", ">values", ">largest error", ">its limit", "", "at"], cells)
    rows = []
    for one in found["steps"]:
        figures = "; ".join(f"{figure['op']} {number(figure['error'], '{:.1e}')} of {number(figure['limit'], '{:.1e}')}" for figure in one["figures"])
        rows.append(
            [
                text(", ".join(one["recipes"])),
                text(figures),
                verdict("passed" if all(figure["ok"] for figure in one["figures"]) else "failed"),
                rate(one["images_per_second"]),
            ]
        )
    tables += "<h3>Training steps beside the processor's</h3>" + table(["recipes", "errors and limits", "", ">images/s"], rows)
    return said + refused + folded("Every operation and step", tables, not found["ok"])


def trainings(step, steps):
    out = ""
    for numbers, rows in step["figures"].get("trainings", {}).items():
        cells = [
            [
                row["epoch"],
                *(number(row[key][which], "{:.6f}") for which in (0, 1) for key in ("cpu", "cuda")),
                number(row["difference"], "{:.1e}"),
                number(row["rounding_difference"], "{:.1e}"),
            ]
            for row in rows
        ]
        second = "tf32 on the GPU, f32 on the processor" if numbers == "tf32" else f"{numbers} on both"
        out += f"<h3>{text(second)}</h3>" + table(
            [">epoch", ">loss, processor", ">GPU", ">validation loss, processor", ">GPU", ">difference", ">that of rounding"], cells
        )
    if out:
        out += "<p class=soft>The last column: how far the same training moves on the processor alone, with other instructions (portable ones; beside tf32: in bf16). A limit is ten times that, within bounds.</p>"
    rows = [[text(numbers), rate(rates["cpu"]), rate(rates["cuda"])] for numbers, rates in step["figures"].get("images_per_second", {}).items()]
    return out + table(["images/s of these trainings", ">processor", ">GPU"], rows)


def maps(step, steps):
    rows = [
        [text(row["map"]), "×".join(map(str, row["shape"])), number(row["largest"]), number(row["difference"], "{:.1e}")]
        for row in step["figures"].get("maps", [])
    ]
    return folded("Every map", table(["map", "size", ">largest value", ">difference, relative to it"], rows))


def rates(step, steps):
    cpu, cuda = step["figures"]["cpu"], step["figures"]["cuda"]
    rows = [[number(a["lr"], "{:.2e}"), number(a["loss"], "{:.5f}"), number(b["loss"], "{:.5f}")] for a, b in zip(cpu["points"], cuda["points"])]
    suggestion = f"<p>Suggested: {number(cpu['suggestion'], '{:.2e}')} on the processor, {number(cuda['suggestion'], '{:.2e}')} on the GPU.</p>"
    return suggestion + folded("Every rate", table([">rate", ">loss, processor", ">loss, GPU"], rows))


def named(row):
    frozen = "whole" if row["freeze_before"] == "none" else f"from {row['freeze_before']}"
    return f"{row['model']} {frozen}, {row['precision']}"


def bench(step, steps):
    ours = step["figures"].get("benches", [])
    theirs = steps.get("torch", {}).get("figures", {}).get("benches", [])
    if not ours:
        return ""
    key = lambda row: tuple(row[name] for name in ("model", "freeze_before", "precision", "batch", "size"))
    peers = {key(row): row for row in theirs if not row["failure"]}
    rows, totals, limits = [], "", ""
    for row in ours:
        peer = peers.get(key(row), {})
        name = named(row)
        if row["failure"]:
            rows.append([text(name), row["batch"], f"<span class=failed>{text(row['failure'])}</span>"] + [""] * 8)
            continue
        ratio = lambda what: number(row[what] / peer[what], "{:.2f}") if peer else "–"
        train, memory = "train_images_per_second", "peak_device_memory_bytes"
        gigabytes = lambda one: number(one[memory] / 1e9, "{:.2f}") if one.get(memory) else "–"
        rows.append(
            [
                text(name),
                row["batch"],
                rate(row[train]),
                rate(peer.get(train)),
                ratio(train),
                rate(row["train_cached_images_per_second"]),
                rate(row["forward_images_per_second"]),
                rate(peer.get("forward_images_per_second")),
                ratio("forward_images_per_second"),
                gigabytes(row),
                gigabytes(peer),
            ]
        )
        kinds = [
            [
                text(part["kind"]),
                part["rows"],
                number(part["seconds"] * 1e3, "{:.2f}"),
                number(100 * part["share"], "{:.0f} %"),
                number(part["gflop_per_second"], "{:,.0f}"),
            ]
            for part in row["totals"]
        ]
        slowest = sorted(row["layers"], key=lambda layer: -layer["seconds"])[:8]
        layers = [
            [
                text(layer["layer"]),
                text(layer["kernel"]),
                number(layer["seconds"] * 1e3, "{:.2f}"),
                number(layer["limit_seconds"] and layer["limit_seconds"] * 1e3, "{:.2f}"),
            ]
            for layer in slowest
        ]
        spread = row["step_seconds"]["train"]
        whole = f"<p>A step takes {spread['median'] * 1e3:.1f} ms ({spread['minimum'] * 1e3:.1f} to {spread['maximum'] * 1e3:.1f}); with a clock at every layer {row['rows_seconds'] * 1e3:.1f} ms"
        whole += f", of which the GPU's limits allow {row['limit_seconds'] * 1e3:.1f} ms.</p>" if row.get("limit_seconds") else ".</p>"
        totals += (
            f"<h3>{text(name)}</h3>"
            + whole
            + table(["kind", ">layers", ">ms", ">share", ">GFLOP/s"], kinds)
            + table(["slowest layers", "kernel", ">ms", ">limit, ms"], layers)
        )
        if row.get("roofline"):
            roof = row["roofline"]
            speeds = ", ".join(f"{one['precision']} {one['gflop_per_second'] / 1e3:,.1f} TFLOP/s" for one in roof["products"])
            limits = f"<p>What the GPU can do at most, as measured by ft: copies {roof['copy_bytes_per_second'] / 1e9:,.0f} GB/s; products {text(speeds)}.</p>"
    columns = [
        "network",
        ">batch",
        ">train: ft",
        ">PyTorch",
        ">ratio",
        ">first half cached",
        ">predict: ft",
        ">PyTorch",
        ">ratio",
        ">GB: ft",
        ">PyTorch",
    ]
    size, count = ours[0]["size"], ours[0]["steps"]
    return (
        f"<p>Images a second at {size} px, of the median of {count} steps; memory of the device while training.</p>\n"
        + table(columns, rows)
        + limits
        + folded("Where a step's time goes", totals)
    )


def torch(step, steps):
    figures = step["figures"]
    found = figures["torch"]
    said = f"<p>PyTorch {text(found['version'])}, CUDA {text(found['cuda'])}, cuDNN {text(found['cudnn'])}, {text(found['device'])}; channels last, cuDNN's search, fused Adam, no compilation. Its figures stand beside ft's above.</p>"
    rows = []
    for row in figures.get("benches", []):
        spread = {} if row["failure"] else row["step_seconds"]["train"]
        times = [number(spread[name] * 1e3, "{:.1f}") if spread else "–" for name in ("median", "minimum", "maximum")]
        rows.append(
            [
                text(named(row)),
                row["batch"],
                rate(row.get("train_images_per_second")),
                *times,
                f"{row.get('trained_weights', 0):,}",
                text(row["failure"] or ""),
            ]
        )
    return said + table(["network", ">batch", ">images/s", ">ms a step", ">fastest", ">slowest", ">weights that train", ""], rows)


DRAWN = {
    "machine": machine,
    "doctor": doctor,
    "doctor-full": doctor,
    "training": trainings,
    "precision": trainings,
    "grad-cam": maps,
    "lr-find": rates,
    "bench": bench,
    "bench-small": bench,
    "torch": torch,
}
