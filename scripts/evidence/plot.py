"""Draws evidence.py's curves: scores of each model over FLOPs and over hours, beside known ones.

In: points with a score, a path. Out: a PNG.
"""

from pathlib import Path
from typing import Dict, List

import matplotlib
from matplotlib.axes import Axes

from fairseq_electra.runs.plot_runs import COLOURS
from scripts.evidence.results import GLUE_MEAN

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.ticker import (
    LogFormatterSciNotation,
    LogLocator,
    NullFormatter,
    StrMethodFormatter,
)

# ELECTRA-Small at parts of its training: training FLOPs, GLUE dev sets' mean of 8 tasks
PAPER = {
    "ELECTRA": [(8.9e16, 74.1), (1.8e17, 76.0), (3.6e17, 77.7), (7.1e17, 79.0), (1.4e18, 79.9)],
    "BERT": [(1.4e18, 75.1)],
}
# the paper's ELECTRA-Small on OpenWebText, all of its training, by task
PAPER_TASKS = {
    "CoLA": 56.8,
    "SST-2": 88.3,
    "MRPC": 87.4,
    "STS-B": 86.8,
    "QQP": 88.3,
    "MNLI": 78.9,
    "QNLI": 87.9,
    "RTE": 68.5,
}
# Google's small BERTs on GLUE's test sets (google-research/bert, README, 2020-03)
SMALL_BERTS = {
    "BERT-Tiny (4.4 M)": {"CoLA": 0.0, "SST-2": 83.2, "MRPC": 71.1, "STS-B": 73.6, "RTE": 57.2},
    "BERT-Mini (11.3 M)": {"CoLA": 0.0, "SST-2": 85.9, "MRPC": 71.8, "STS-B": 73.3, "RTE": 57.9},
}


def plot_curves(curves: Dict[str, List[dict]], tasks: List[str], is_tiny: bool, path: Path) -> None:
    """Write the PNG: a column for each score, over FLOPs and below over hours.

    Args:
        curves: of join_seeds: points with `title`, `flops`, `hours` and `score`.
        tasks: GLUE's.
        is_tiny: compare with Google's small BERTs, else with the paper's ELECTRA-Small.
    """
    columns = max(1, len(curves))
    figure, grid = pyplot.subplots(
        2, columns, figsize=(4.8 * columns, 7.2), layout="constrained", squeeze=False
    )
    for (name, points), (by_flops, by_hours) in zip(curves.items(), grid.T):
        draw_models(by_flops, points, "flops")
        draw_models(by_hours, points, "hours")
        if name == GLUE_MEAN and is_tiny:
            draw_small_berts(by_flops, tasks)
            draw_small_berts(by_hours, tasks)
        elif name == GLUE_MEAN:
            draw_paper(by_flops, tasks)
        by_flops.set_xlabel("training FLOPs")
        by_hours.set_xlabel("hours of pre-training")
        by_flops.set_title(name.format(len(tasks)), fontsize="medium")
        by_flops.legend(frameon=False, fontsize="small")
        for panel in (by_flops, by_hours):
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.xaxis.set_minor_formatter(NullFormatter())
            panel.grid(alpha=0.25)
        by_flops.xaxis.set_major_formatter(LogFormatterSciNotation(minor_thresholds=(9, 9)))
        by_hours.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def draw_small_berts(panel: Axes, tasks: List[str]) -> None:
    """A level line each, if it was published for all of these tasks."""
    for (title, scores), style in zip(SMALL_BERTS.items(), (":", "--"), strict=True):
        if set(tasks) <= set(scores):
            mean = sum(scores[task] for task in tasks) / len(tasks)
            panel.axhline(
                mean, color="grey", linestyle=style, linewidth=1, label=f"{title}, test sets"
            )


def draw_models(panel: Axes, points: List[dict], quantity: str) -> None:
    """A line a model through the medians, bars from the lowest to the best seed."""
    titles = dict.fromkeys(point["title"] for point in points)
    for title, colour in zip(titles, COLOURS):
        own = sorted((p for p in points if p["title"] == title), key=lambda p: p[quantity])
        medians = [p["score"]["median"] for p in own]
        below = [p["score"]["median"] - p["score"]["lowest"] for p in own]
        above = [p["score"]["best"] - p["score"]["median"] for p in own]
        panel.errorbar(
            [p[quantity] for p in own],
            medians,
            yerr=[below, above],
            color=colour,
            marker="o",
            capsize=3,
            label=title,
        )


COLOUR = {"ELECTRA": COLOURS[0], "BERT": COLOURS[2]}  # of the paper's marks


def draw_paper(panel: Axes, tasks: List[str]) -> None:
    """The paper's figures for comparison, hollow."""
    for title, places in PAPER.items():
        xs, ys = zip(*places, strict=True)
        panel.plot(
            xs,
            ys,
            color=COLOUR[title],
            marker="o",
            markerfacecolor="none",
            linestyle=":",
            label=f"{title}-Small, paper, 8 tasks",
        )
    if set(tasks) < set(PAPER_TASKS):
        mean = sum(PAPER_TASKS[task] for task in tasks) / len(tasks)
        panel.plot(
            [PAPER["ELECTRA"][-1][0]],
            [mean],
            color=COLOUR["ELECTRA"],
            marker="D",
            markerfacecolor="none",
            linestyle="none",
            label=f"ELECTRA-Small, paper, these {len(tasks)} tasks",
        )
