"""Draws the curves of compared runs into one PNG: a panel for each metric that any run has.

In: the runs of compare_runs.py, the quantity on the x axis, a path. Out: the file.
"""

import math
from pathlib import Path
from typing import List, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

matplotlib.use("Agg")  # no display is needed, and none is looked for

from matplotlib import pyplot

AXES = ("flops", "hours", "updates")
PANELS = {  # metric -> title, axis label
    "mlm_loss": ("Masked-token loss (ELECTRA: of its generator)", "nats a masked token"),
    "disc_loss": ("Discriminator loss", "nats a token"),
    "disc_auc": ("Discriminator AUC", "area under the ROC curve"),
}
# Okabe and Ito's colours, told apart by colour-blind readers too
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MOST_MARKS = 25  # on one curve, however many validations it has


class XAxis(NamedTuple):
    """What the curves are drawn over: a quantity of the runs, divided by a round unit."""

    quantity: str  # of AXES
    unit: float
    label: str


def choose_x_axis(runs: List, quantity: str) -> XAxis:
    """A unit in which the longest run's end is a readable number."""
    curves = [run.pretraining for run in runs if run.pretraining]
    end = max((float(position(p, quantity, p.updates())) for p in curves), default=1.0)
    if quantity == "flops" and end >= 10:
        exponent = math.floor(math.log10(end))
        return XAxis(quantity, 10.0**exponent, rf"training FLOPs ($\times 10^{{{exponent}}}$)")
    if quantity == "updates" and end >= 10_000:
        return XAxis(quantity, 1000.0, "thousand updates")
    if quantity == "hours" and end < 1:
        return XAxis(quantity, 1 / 60, "minutes")
    return XAxis(quantity, 1.0, quantity)


def position(pretraining, quantity: str, updates) -> np.ndarray:
    """The quantity at each of the updates, by the run's method for it."""
    return getattr(pretraining, f"{quantity}_at")(updates)


def plot_runs(runs: List, quantity: str, path: Path) -> None:
    """Write the PNG.

    Args:
        runs: compare_runs.Run, each with a name, a pretraining or None, and finetunings.
        quantity: one of AXES, the x axis of the curves.
    """
    metrics = [metric for metric in PANELS if any(has_curve(run, metric) for run in runs)]
    tuned = any(run.finetunings for run in runs)
    count = len(metrics) + tuned
    columns = 2 if count == 4 else count
    rows = math.ceil(count / columns)
    figure, grid = pyplot.subplots(
        rows,
        columns,
        figsize=(5.4 * columns, 3.5 * rows + 0.5),
        squeeze=False,
        layout="constrained",
    )
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.12)
    panels = list(grid.flat)
    x_axis = choose_x_axis(runs, quantity)
    for metric, panel in zip(metrics, panels, strict=False):
        draw_curves(panel, runs, metric, x_axis)
    if tuned:
        draw_scores(panels[len(metrics)], runs)
    for panel in panels[count:]:
        panel.set_visible(False)
    handles = make_legend(runs, bool(metrics))
    figure.legend(handles=handles, loc="outside upper center", ncols=3 * columns, frameon=False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def has_curve(run, metric: str) -> bool:
    """Whether a run has any curve of a metric."""
    return run.pretraining is not None and any(name == metric for name, _ in run.pretraining.curves)


def choose_colour(index: int) -> str:
    """The colour of the run at this place."""
    return COLOURS[index % len(COLOURS)]


def draw_curves(panel: Axes, runs: List, metric: str, x_axis: XAxis) -> None:
    """One metric of all runs: training faint, held-out data with marks at validations."""
    for index, run in enumerate(runs):
        for split in ("train", "held out"):
            if not (run.pretraining and (metric, split) in run.pretraining.curves):
                continue
            updates, values = run.pretraining.curves[metric, split]
            x = position(run.pretraining, x_axis.quantity, updates) / x_axis.unit
            if split == "train":
                style = {"linewidth": 1, "alpha": 0.4}
            else:
                every = math.ceil(len(updates) / MOST_MARKS)
                style = {"linewidth": 1.8, "marker": "o", "markersize": 3.5, "markevery": every}
            panel.plot(x, values, color=choose_colour(index), **style)
    title, label = PANELS[metric]
    panel.set_title(title, fontsize="medium")
    panel.set(xlabel=x_axis.label, ylabel=label)
    panel.set_xlim(left=0)
    panel.grid(alpha=0.25)


def draw_scores(panel: Axes, runs: List) -> None:
    """A dot for each fine-tuning run, a bar at the median."""
    tuned = [(index, run) for index, run in enumerate(runs) if run.finetunings]
    for place, (index, run) in enumerate(tuned):
        scores = [finetuning.score for finetuning in run.finetunings]
        colour = choose_colour(index)
        panel.hlines(np.median(scores), place - 0.2, place + 0.2, color=colour, linewidth=2)
        panel.scatter([place] * len(scores), scores, color=colour, alpha=0.7, zorder=3)
    metrics = sorted({part.metric for _, run in tuned for part in run.finetunings})
    panel.set_title(
        f"Fine-tuned {' / '.join(metrics)}: the runs and their median", fontsize="medium"
    )
    panel.set(ylabel="best validation (%)", xlim=(-0.6, len(tuned) - 0.4))
    panel.set_xticks(range(len(tuned)), [run.name for _, run in tuned])
    panel.grid(alpha=0.25, axis="y")


def make_legend(runs: List, curves: bool) -> List[Line2D]:
    """A line for each run, and what faint and marked lines are."""
    handles = [
        Line2D([], [], color=choose_colour(index), linewidth=2, label=run.name)
        for index, run in enumerate(runs)
    ]
    if curves:
        handles.append(Line2D([], [], color="0.3", alpha=0.4, linewidth=1, label="training"))
        handles.append(Line2D([], [], color="0.3", marker="o", markersize=3.5, label="held out"))
    return handles
