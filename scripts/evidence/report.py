"""The report of reproduce.sh: what each run cost and scored, beside the paper's figures.

In: OUT_DIR with plan.json, logs and results, at any moment. Out: OUT_DIR/report with evidence.md,
results.json and curve.png; what has not run yet says so.

    python scripts/evidence.py OUT_DIR
"""

import json
import sys
from pathlib import Path
from typing import List

from fairseq_electra.data.data_files import read_index
from fairseq_electra.runs.compare_runs import shorten
from fairseq_electra.runs.plotting import plot_to
from scripts.evidence.results import (
    average_scores,
    find_dev_sets,
    join_seeds,
    read_probe,
    read_result,
)
from scripts.glue.summary import format_cell

NOT_RUN = "not run"
OTHERS = {  # columns beside GLUE's
    "conll_dir": ["tags, F1", "tags by frozen features"],
    "blimp_dir": ["minimal pairs"],
}
HELD_OUT = {  # what pre-training logged at its last validation -> column
    "mlm_loss": "MLM loss (nats)",
    "disc_auc": "AUC",
    "disc_auc_context": "AUC from context",
    "disc_recall": "recall",
}


def format_row(result: dict, tasks: List[str], others: List[str]) -> List[str]:
    """A line of the table of scores."""
    cells = name_run(result)
    if "updates" not in result:
        return [*cells, *[NOT_RUN] * (6 + len(tasks) + 1 + len(list_columns(others)))]
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
    cells.append(format_cell(mean) if mean else NOT_RUN)
    if "conll_dir" in others:
        cells.append(format_cell(result["tags"]) if "tags" in result else NOT_RUN)
        probe = read_probe(result)
        cells.append(NOT_RUN if probe is None else f"{probe:.1f}")
    if "blimp_dir" in others:
        cells.append(format_pairs(result["pairs"]) if "pairs" in result else NOT_RUN)
    return cells


def list_columns(others: List[str]) -> List[str]:
    """Titles of the columns beside GLUE's."""
    return [title for name in others for title in OTHERS[name]]


def name_run(result: dict) -> List[str]:
    """The first cells of both tables."""
    seed = f", seed {result['seed']}" if result["seed"] > 1 else ""
    return [f"{result['title']}{seed}", f"{result['budget']:g} %"]


def format_pairs(pairs: dict) -> str:
    """The accuracy of each score of the model, of sums over tokens."""
    return ", ".join(f"{name} {by['sum']:.1f}" for name, by in pairs["mean"].items())


def format_table(results: List[dict], tasks: List[str], others: List[str]) -> str:
    header = ["run", "budget", "FLOPs", "updates", "tokens", "hours", "tokens/s", "of peak"]
    header += [*tasks, "mean", *list_columns(others)]
    return join_rows(header, [format_row(result, tasks, others) for result in results])


def format_held_out(results: List[dict]) -> str:
    """The table of what the pre-trainings reached on held-out text, and of their features."""
    rows = []
    for result in results:
        if "held_out" in result:
            cells = [result["held_out"].get(name) for name in HELD_OUT]
            features = result.get("features", {}).get("last", {})
            dims, mean = features.get("feature_dims"), features.get("feature_mean")
            rows.append(
                [
                    *name_run(result),
                    *("-" if cell is None else f"{cell:.3f}" for cell in cells),
                    "-" if dims is None else f"{dims:.1f}",
                    "-" if mean is None else f"{mean:.2f}",
                ]
            )
    header = ["run", "budget", *HELD_OUT.values(), "effective dimensions", "mean's share"]
    return join_rows(header, rows)


def join_rows(header: List[str], rows: List[List[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in lines)


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
best and standard deviation. Tags by frozen features: percent of words, by a linear map of all
layers. One pre-training a row: the paper's 14 seeds of ELECTRA-Small have
a standard deviation of 0.57."""
PAPER_MARKS = """\
The plot's hollow marks are the paper's, on its own text and by its own count of FLOPs, which is a
fifth higher."""
TINY_MARKS = """\
Budgets are percents of `BUDGET={budget}`. "RoBERTa, ELECTRA's start" is trained on ELECTRA's
encoder with its initial weights. The plot's lines are Google's BERT-Tiny and BERT-Mini on the test
sets of these tasks, as published."""


def write_report(out_dir: Path) -> None:
    """Write all three files of OUT_DIR/report.

    Raises:
        ValueError: if there is no plan in OUT_DIR.
    """
    if not (out_dir / "plan.json").is_file():
        raise ValueError(f"no plan.json in {out_dir}: scripts/reproduce.sh makes it")
    plan = json.loads((out_dir / "plan.json").read_text("utf-8"))
    results = [read_result(run, out_dir, plan["machine"]["peaks"]) for run in plan["runs"]]
    tasks, others, is_tiny = plan["tasks"], plan["others"], plan["size"] == "tiny"
    compared = [result for result in results if not result["is_ablation"]]
    ablations = [result for result in results if result["is_ablation"]]
    marks = TINY_MARKS.format(budget=plan["budget"]) if is_tiny else PAPER_MARKS
    parts = ["# ELECTRA and RoBERTa at equal compute", describe_runs(plan), f"{NOTES}\n{marks}"]
    parts += [describe_text(out_dir, results), format_table(compared, tasks, others).rstrip()]
    parts.append("![Scores over FLOPs and over hours](curve.png)")
    parts += ["## Held-out text, at the end of pre-training", format_held_out(compared).rstrip()]
    if ablations:
        smallest = min(compared, key=lambda result: (result["budget"], result["title"]))
        table = format_table([smallest, *ablations], tasks, others)
        parts += ["## Ablations, at the smallest budget", table.rstrip()]
    report = out_dir / "report"
    report.mkdir(exist_ok=True)
    (report / "evidence.md").write_text("\n\n".join(parts) + "\n", "utf-8")
    (report / "results.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    with plot_to(report / "curve.png"):
        from scripts.evidence.plot import plot_curves

        plot_curves(join_seeds(compared, tasks), tasks, is_tiny, report / "curve.png")


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: evidence.py OUT_DIR")
    try:
        write_report(Path(sys.argv[1]))
    except (ValueError, OSError) as error:
        sys.exit(f"evidence.py: {error}")
