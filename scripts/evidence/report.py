"""The report of reproduce.sh: what each run cost and scored, beside the paper's figures.

In: OUT_DIR with plan.json, logs and results, at any moment. Out: OUT_DIR/report with evidence.md,
results.json and curve.png; what has not run yet says so.

    python scripts/evidence.py OUT_DIR
"""

import json
import statistics
import sys
from contextlib import suppress
from pathlib import Path
from typing import Dict, List, Optional

import numpy as np

from fairseq_electra.data.data_files import read_index
from fairseq_electra.runs.compare_runs import shorten
from fairseq_electra.runs.measure_runs import Pretraining, measure_pretraining, name_kind
from fairseq_electra.runs.plotting import plot_to
from fairseq_electra.runs.read_logs import find_log, read_log
from scripts.glue.summary import COUNTED, format_cell, summarize

NOT_RUN = "not run"
HALF_PRECISION = ("fp16", "bf16", "amp")  # fairseq's options


def read_result(run: dict, out_dir: Path, peaks: Dict[str, float]) -> dict:
    """All that is known of a planned run; a key is missing where nothing is known yet."""
    result = {key: run[key] for key in ("name", "title", "model", "budget")}
    folder = out_dir / "pretrained" / run["name"]
    try:
        log = read_log(find_log(folder))
        pretraining = measure_pretraining(log, name_kind(log))
    except SystemExit:  # no log, or nothing in it yet
        return result
    result["complete"] = (out_dir / "done" / f"pretrain-{run['name']}").exists()
    result.update(measure_cost(pretraining, peaks), held_out=pretraining.held_out())
    with suppress(ValueError):  # no finished run in it
        result["glue"] = summarize(out_dir / "finetuned" / run["name"])
    return result


def measure_cost(pretraining: Pretraining, peaks: Dict[str, float]) -> dict:
    """Updates, tokens, FLOPs, hours, speed and share of the machine's peak."""
    updates = pretraining.updates()
    rates = [metrics["wps"] for metrics in pretraining.log.training().values() if "wps" in metrics]
    speed = statistics.median(rates) if rates else None
    option = pretraining.log.option
    half = option("model", "precision") == "bf16" or any(
        option("common", name) == "True" for name in HALF_PRECISION
    )
    peak = peaks["bf16" if half else "float32"]
    return {
        "updates": updates,
        "tokens": float(pretraining.tokens_at(updates)),
        "flops": float(pretraining.flops_at(updates)),
        "hours": float(pretraining.hours_at(updates)),
        "tokens_per_second": speed,
        "share_of_peak": speed and speed * (pretraining.flops_per_token or np.nan) / peak,
        "precision": "bf16" if half else "float32",
    }


def find_dev_sets(glue: dict, task: str) -> List[str]:
    """The names of a task's dev sets: MNLI has two."""
    return [name for name in glue if name in (task, f"{task}-m", f"{task}-mm")]


def average_scores(glue: Optional[dict], tasks: List[str]) -> Optional[dict]:
    """Mean over the tasks, seed by seed: median, lowest, best; None before all tasks have one."""
    if glue is None or not all(find_dev_sets(glue, task) for task in tasks):
        return None
    names = [name for name in glue if COUNTED.get(name, True)]
    scores = [next(iter(glue[name].values()))["scores"] for name in names]
    if len(set(map(len, scores))) > 1:  # a seed that is not through with all tasks
        scores = [values[: min(map(len, scores))] for values in scores]
    means = [statistics.mean(values) for values in zip(*scores, strict=True)]
    return {
        "median": statistics.median(means),
        "lowest": min(means),
        "best": max(means),
        "sd": statistics.stdev(means) if len(means) > 1 else 0.0,
        "scores": means,
    }


def format_row(result: dict, tasks: List[str]) -> List[str]:
    """A line of the table."""
    cells = [result["title"], f"{result['budget']:g} %"]
    if "updates" not in result:
        return [*cells, *[NOT_RUN] * (6 + len(tasks) + 1)]
    cells += [
        f"{result['flops']:.3g}",
        f"{result['updates']}" + ("" if result["complete"] else ", not finished"),
        shorten(result["tokens"]),
        f"{result['hours']:.3g}",
        shorten(result["tokens_per_second"]) if result["tokens_per_second"] else "-",
        f"{result['share_of_peak']:.0%}" if result["share_of_peak"] else "-",
    ]
    glue = result.get("glue", {})
    for task in tasks:
        names = find_dev_sets(glue, task)
        scores = [format_cell(next(iter(glue[name].values()))) for name in names]
        cells.append(" / ".join(scores) or NOT_RUN)
    mean = average_scores(result.get("glue"), tasks)
    return [*cells, format_cell(mean) if mean else NOT_RUN]


def format_table(results: List[dict], tasks: List[str]) -> str:
    header = ["run", "budget", "FLOPs", "updates", "tokens", "hours", "tokens/s", "of peak"]
    rows = [[*header, *tasks, "mean"], ["---"] * (len(header) + len(tasks) + 1)]
    rows += [format_row(result, tasks) for result in results]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def describe_text(out_dir: Path, results: List[dict]) -> str:
    """How much text there was, and how often the longest run read it."""
    tokens = int(read_index(out_dir / "data-bin" / "train.idx").sizes.sum())
    most = max((result.get("tokens", 0) for result in results), default=0)
    return (
        f"The text has {shorten(tokens)} tokens; the longest run so far read {shorten(most)}, "
        f"{most / tokens:.1f} times all of it. The paper's text has 3.3 G tokens, of "
        "which its Small read 16 G."
    )


def describe_runs(plan: dict) -> str:
    """The machine, the versions, the command."""
    machine = plan["machine"]
    known = ", ".join(f"{key} {machine[key]}" for key in machine if key not in ("peaks", "device"))
    peaks = ", ".join(
        f"{dtype} {peak / 1e12:.3g} TFLOP/s" for dtype, peak in machine["peaks"].items()
    )
    return (
        f"`electra_{plan['size']}` on {machine['device']} ({known}); matrix products: {peaks}.\n"
        f"Command: `scripts/reproduce.sh {' '.join(plan['command'])}`, fine-tuning seeds "
        f"{', '.join(map(str, plan['seeds']))}."
    )


NOTES = """\
Runs of a budget cost the same training FLOPs (fairseq-electra flops: forward x 3, no look-ups), and
each has a schedule of its own. Hours count set-up and validation. Scores are percents of the dev
sets: CoLA MCC, STS-B Spearman, otherwise accuracy; the median over fine-tuning seeds, then lowest,
best and standard deviation. One pre-training a row: the paper's 14 seeds of ELECTRA-Small have
a standard deviation of 0.57. The plot's hollow marks are the paper's, on its own text and by
its own count of FLOPs, which is a fifth higher."""


def write_report(out_dir: Path) -> None:
    """Write all three files of OUT_DIR/report.

    Raises:
        ValueError: if there is no plan in OUT_DIR.
    """
    if not (out_dir / "plan.json").is_file():
        raise ValueError(f"no plan.json in {out_dir}: scripts/reproduce.sh makes it")
    plan = json.loads((out_dir / "plan.json").read_text("utf-8"))
    results = [read_result(run, out_dir, plan["machine"]["peaks"]) for run in plan["runs"]]
    tasks = plan["tasks"]
    compared = [result for result in results if result["title"] in ("ELECTRA", "RoBERTa")]
    ablations = [result for result in results if result not in compared]
    parts = ["# ELECTRA and RoBERTa at equal compute", describe_runs(plan), NOTES]
    parts += [describe_text(out_dir, results), format_table(compared, tasks).rstrip()]
    parts.append("![Score over FLOPs and over hours](curve.png)")
    if ablations:
        smallest = min(compared, key=lambda result: (result["budget"], result["title"]))
        table = format_table([smallest, *ablations], tasks)
        parts += ["## Ablations, at the smallest budget", table.rstrip()]
    report = out_dir / "report"
    report.mkdir(exist_ok=True)
    (report / "evidence.md").write_text("\n\n".join(parts) + "\n", "utf-8")
    (report / "results.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    points = [{**result, "score": average_scores(result.get("glue"), tasks)} for result in compared]
    with plot_to(report / "curve.png"):
        from scripts.evidence.plot import plot_curve

        plot_curve([point for point in points if point["score"]], tasks, report / "curve.png")


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: evidence.py OUT_DIR")
    try:
        write_report(Path(sys.argv[1]))
    except (ValueError, OSError) as error:
        sys.exit(f"evidence.py: {error}")
