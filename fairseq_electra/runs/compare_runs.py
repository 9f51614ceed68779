"""Logs of fairseq runs -> a table of what each cost and reached, and a plot of the curves.

compare.py is the command.
"""

import argparse
import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from fairseq_electra.runs.measure_runs import (
    Finetuning,
    Pretraining,
    count_encoder_parameters,
    measure_finetuning,
    measure_pretraining,
    name_kind,
)
from fairseq_electra.runs.plotting import plot_to
from fairseq_electra.runs.read_logs import find_log, read_log

PERCENT = "{:.1f}".format
FRACTION = "{:.3f}".format


def shorten(number: float) -> str:
    """13548225 -> "13.5 M"."""
    for factor, letter in ((1e9, " G"), (1e6, " M"), (1e3, " K")):
        if number >= factor:
            return f"{number / factor:.3g}{letter}"
    return f"{number:g}"


QUANTITIES = {  # key of a row in table.json -> title, format
    "parameters": ("parameters trained", shorten),
    "encoder_parameters": ("parameters of the encoder", shorten),
    "updates": ("updates", str),
    "mlm_updates": ("updates of the first stage", str),
    "tokens": ("tokens", shorten),
    "flops": ("training FLOPs", "{:.3g}".format),
    "hours": ("hours", "{:.3g}".format),
    "mlm_loss": ("MLM loss (nats)", FRACTION),
    "encoder_mlm_loss": ("MLM loss of the encoder, first stage", FRACTION),
    "clm_loss": ("corrective loss of the encoder (nats)", FRACTION),
    "masked_acc": ("accuracy of best guesses", FRACTION),
    "sampled_acc": ("accuracy of samples", FRACTION),
    "replaced": ("share of tokens replaced", FRACTION),
    "disc_loss": ("discriminator loss (nats)", FRACTION),
    "disc_acc": ("discriminator accuracy", FRACTION),
    "disc_precision": ("discriminator precision", FRACTION),
    "disc_recall": ("discriminator recall", FRACTION),
    "disc_auc": ("discriminator AUC", FRACTION),
    "disc_auc_context": ("AUC from context alone", FRACTION),
    "feature_dims": ("effective dimensions of the features", "{:.1f}".format),
}


@dataclass
class Run:
    """One model of the table: a pre-training run, or fine-tuning runs, or both."""

    name: str
    pretraining: Optional[Pretraining]
    finetunings: List[Finetuning]

    def logs(self) -> list:
        pretraining = [self.pretraining] if self.pretraining else []
        return [part.log for part in [*pretraining, *self.finetunings]]


def split_spec(spec: str) -> Tuple[str, List[Path]]:
    """The name and the paths of a RUN; an unnamed run is called after its first path."""
    name, equals, paths = spec.partition("=")
    if not equals:
        name, paths = "", spec
    parts = [Path(part) for part in paths.split("+") if part]
    if not parts:
        raise SystemExit(f"{spec}: no path in it; RUN is [NAME=]PATH[+PATH...]")
    first = parts[0]
    return name or (first.stem if first.is_file() else first.resolve().name), parts


def read_run(spec: str, flops_per_token: Dict[str, float]) -> Run:
    """Read all logs of a RUN.

    Raises:
        SystemExit: if a log cannot be read, or the parts do not belong together.
    """
    name, paths = split_spec(spec)
    run = Run(name, None, [])
    for path in paths:
        log = read_log(find_log(path))
        kind = name_kind(log)
        if kind == "finetuning":
            run.finetunings.append(measure_finetuning(log))
        elif run.pretraining is None:
            run.pretraining = measure_pretraining(log, kind, flops_per_token.get(name))
        else:
            raise SystemExit(f"{spec}: two pre-training runs in one RUN; give them as two")
    check_finetunings(spec, run.finetunings)
    return run


def check_finetunings(spec: str, finetunings: List[Finetuning]) -> None:
    """Refuse runs on different data that would be taken for seeds of one task."""
    folders: Dict[Tuple[str, str], Optional[str]] = {}
    for part in finetunings:
        data = part.log.option("task", "data")
        first = folders.setdefault((part.task, part.metric), data)
        if data != first:
            raise SystemExit(
                f"{spec}: fine-tuning runs of different data of one name: {first}, {data}"
            )


def make_row(run: Run) -> dict:
    """What the table says of a run; numbers that are unknown or not finite are left out."""
    numbers = {"encoder_parameters": count_encoder_parameters(run.logs()[0])}
    pretraining = run.pretraining
    if pretraining:
        updates = pretraining.updates()
        numbers["parameters"] = pretraining.log.parameters
        numbers["updates"] = updates
        numbers["mlm_updates"] = min(pretraining.mlm_updates, updates) or None
        numbers["tokens"] = float(pretraining.tokens_at(updates))
        numbers["flops_per_token"] = pretraining.flops_per_token
        if pretraining.mlm_updates:
            numbers["mlm_flops_per_token"] = pretraining.mlm_flops_per_token
        numbers["flops"] = float(pretraining.flops_at(updates))
        numbers["hours"] = float(pretraining.hours_at(updates))
        numbers.update(pretraining.held_out())
    known = {k: v for k, v in numbers.items() if v is not None and math.isfinite(v)}
    row = {"model": run.name, **known}
    if run.finetunings:
        row["finetuned"] = [summarise_scores(parts) for parts in group_by_task(run.finetunings)]
    return row


def group_by_task(finetunings: List[Finetuning]) -> List[List[Finetuning]]:
    """The seeds of each task, tasks as they come."""
    groups: Dict[Tuple[str, str], List[Finetuning]] = {}
    for part in finetunings:
        groups.setdefault((part.task, part.metric), []).append(part)
    return list(groups.values())


def summarise_scores(finetunings: List[Finetuning]) -> dict:
    """Median, lowest and highest score in percent of the seeds of one task."""
    scores = [finetuning.score for finetuning in finetunings]
    return {
        "task": finetunings[0].task,
        "metric": finetunings[0].metric,
        "median": statistics.median(scores),
        "lowest": min(scores),
        "highest": max(scores),
        "scores": scores,
    }


def name_tasks(runs: List[Run], titles: Dict[str, str]) -> Dict[Tuple[str, str], str]:
    """What each task and metric of the runs is called: its title, or both names.

    Args:
        titles: of the --task options, by task.
    """
    keys = {(part.task, part.metric): None for run in runs for part in run.finetunings}
    return {key: titles.get(key[0]) or " ".join(filter(None, key)) for key in keys}


def format_scores(summary: dict) -> str:
    """84.2 (83.9-85.0 of 3), or the one score."""
    count = len(summary["scores"])
    text = PERCENT(summary["median"])
    if count > 1:
        text += f" ({PERCENT(summary['lowest'])}-{PERCENT(summary['highest'])} of {count})"
    return text


def format_table(rows: List[dict], tasks: Dict[Tuple[str, str], str]) -> str:
    """A markdown table with a column a model, which stays narrow enough for a terminal.

    Args:
        tasks: names of the tasks by task and metric.
    """
    lines = [["", *(row["model"] for row in rows)]]
    for key, (title, form) in QUANTITIES.items():
        if any(key in row for row in rows):
            lines.append([title, *(form(row[key]) if key in row else "-" for row in rows)])
    for key, name in tasks.items():
        scores = [find_scores(row, key) for row in rows]
        cells = (format_scores(summary) if summary else "-" for summary in scores)
        lines.append([f"fine-tuned {name} (%)", *cells])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["| " + " | ".join(map(str.ljust, cells, widths)) + " |" for cells in lines]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(text)


def find_scores(row: dict, key: Tuple[str, str]) -> Optional[dict]:
    """A row's summary of the task and metric; None if it was not fine-tuned on them."""
    found = [s for s in row.get("finetuned", ()) if (s["task"], s["metric"]) == key]
    return found[0] if found else None


def collect_notes(runs: List[Run]) -> List[str]:
    """What a reader of the table must know about these runs."""
    notes = [note for run in runs for log in run.logs() for note in log.notes]
    kinds = {run.pretraining.kind for run in runs if run.pretraining}
    for run in runs:
        pretraining = run.pretraining
        if pretraining and pretraining.missing:
            notes.append(f"{run.name}: no FLOPs, {pretraining.missing}")
        if pretraining and not pretraining.held_out():
            notes.append(f"{run.name}: no validation yet, so no held-out metrics")
    if kinds:
        notes.append("losses, accuracies and AUC: held-out data, at the last validation")
    if "masked_lm" in kinds:
        notes.append("masked_lm's loss is converted from fairseq's bits to nats")
    if kinds == {"electra", "masked_lm"}:
        notes.append("ELECTRA's MLM loss is that of its small generator, not of the encoder")
    if any(run.pretraining and run.pretraining.mlm_updates for run in runs):
        notes.append("first stage: the encoder fills masks too, and judges nothing yet")
    if any(run.pretraining and has_context_auc(run.pretraining) for run in runs):
        notes.append("AUC from context alone: of each logit less the mean logit of its token")
    if any(run.finetunings for run in runs):
        notes.append("fine-tuned: best validation of each run; median (lowest-highest of the runs)")
    return notes


def has_context_auc(pretraining: Pretraining) -> bool:
    """Whether it was ever validated with it."""
    return ("disc_auc_context", "held out") in pretraining.curves


def check_axis(runs: List[Run], axis: str) -> None:
    """Refuse an axis that a run's log does not give."""
    for run in runs:
        pretraining = run.pretraining
        if pretraining and not math.isfinite(getattr(pretraining, f"{axis}_at")(1)):
            if axis == "flops" and pretraining.missing:
                raise SystemExit(
                    f"--x flops: {pretraining.missing}; give --flops-per-token {run.name}=NUMBER"
                    " (from flops.py), or another --x"
                )
            raise SystemExit(f"--x {axis}: not in {pretraining.log.path}; choose another --x")


def parse_titles(options: List[str], runs: List[Run]) -> Dict[str, str]:
    """{NAME: TITLE} of the --task options."""
    names = sorted({part.task for run in runs for part in run.finetunings})
    titles = {}
    for option in options:
        name, _, title = option.partition("=")
        if name not in names or not title:
            raise SystemExit(f"--task {option}: NAME=TITLE, NAME is one of {', '.join(names)}")
        titles[name] = title
    return titles


def parse_flops(options: List[str], names: List[str]) -> Dict[str, float]:
    """{NAME: FLOPs a token} of the --flops-per-token options."""
    flops = {}
    for option in options:
        name, _, number = option.rpartition("=")
        if name not in names:
            raise SystemExit(f"--flops-per-token {option}: NAME is one of {', '.join(names)}")
        try:
            flops[name] = float(number)
        except ValueError:
            raise SystemExit(f"--flops-per-token {option}: {number} is not a number") from None
    return flops


def compare(args: argparse.Namespace) -> None:
    """Print the table, write it and the plot.

    Raises:
        SystemExit, OSError: for what the user can mend.
    """
    names = [split_spec(spec)[0] for spec in args.runs]
    if len(set(names)) < len(names):
        raise SystemExit(f"two runs of the same name ({', '.join(names)}): give NAME=PATH")
    flops_per_token = parse_flops(args.flops_per_token, names)
    runs = [read_run(spec, flops_per_token) for spec in args.runs]
    tasks = name_tasks(runs, parse_titles(args.task, runs))
    check_axis(runs, args.x)
    rows = [make_row(run) for run in runs]
    notes = collect_notes(runs)
    if args.features:
        measured = json.loads(args.features.read_text(encoding="utf-8"))
        for row in rows:
            row.update(measured.get(row["model"], {}))
        notes.append("effective dimensions: of the last layer, held-out text as it is")
    lines = [format_table(rows, tasks), "", *(f"- {note}" for note in notes)]
    text = "\n".join(lines).rstrip() + "\n"
    print(text, end="")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise SystemExit(f"--out {args.out}: a file of that name exists; name a folder") from None
    (args.out / "table.md").write_text(text, encoding="utf-8")
    document = {"x": args.x, "rows": rows, "notes": notes}
    (args.out / "table.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    curves = args.out / "curves.png"
    with plot_to(curves):
        from fairseq_electra.runs.plot_runs import plot_runs

        plot_runs(runs, args.x, curves, tasks)
