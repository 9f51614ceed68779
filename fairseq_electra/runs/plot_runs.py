"""Draws compared runs into one PNG: a panel for each metric that any run has, one for fine-tuning.

In: the runs of compare_runs.py, the quantity on the x axis, a path, names of tasks. Out: the file.
"""

import math
import textwrap
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

matplotlib.use("Agg")  # no display is needed, and none is looked for

from matplotlib import pyplot


class Panel(NamedTuple):
    """What one panel shows of each run; the second metric is drawn dashed."""

    metric: str
    title: str
    label: str
    dashed: str = ""
    dashed_label: str = ""  # in the panel's own legend
    guess: Optional[float] = None  # what guessing gives


PANELS = [
    Panel(
        "mlm_loss",
        "Masked-token loss (ELECTRA: of its generator)",
        "nats a masked token",
        "encoder_mlm_loss",
        "of the encoder, first stage",
    ),
    Panel(
        "disc_auc",
        "Discriminator AUC: original or replaced",
        "area under the ROC curve",
        "disc_auc_context",
        "from context alone",
        0.5,
    ),
    Panel("feature_dims", "Effective dimensions of the features", "participation ratio"),
]
# Okabe and Ito's colours, told apart by colour-blind readers too
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MOST_MARKS = 25  # on one curve, however many validations it has
BEGINNING = 0.03  # share of the x axis whose values, falling fast, do not set the y axis
MERGED = 0.01  # share of the x axis within which beginnings of second stages share a line
GROUP_WIDTH = 0.8  # of a task's bars
NAME_WIDTH = 24  # letters of a task's name on a line


class XAxis(NamedTuple):
    """What the curves are drawn over: a quantity of the runs, divided by a round unit."""

    quantity: str  # of compare.AXES
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


def plot_runs(
    runs: List, quantity: str, path: Path, tasks: Optional[Dict[Tuple[str, str], str]] = None
) -> None:
    """Write the PNG.

    Args:
        runs: compare_runs.Run, each with a name, a pretraining or None, and finetunings.
        quantity: one of compare.AXES, the x axis of the curves.
        tasks: names of the fine-tuning tasks by task and metric, in their order.
    """
    shown = [panel for panel in PANELS if any(has_curve(run, panel.metric) for run in runs)]
    count = len(shown) + bool(tasks)
    columns = 2 if count == 4 else max(count, 1)
    rows = math.ceil(count / columns) or 1
    figure, grid = pyplot.subplots(
        rows,
        columns,
        figsize=(5.4 * columns, 3.7 * rows + 0.5),
        squeeze=False,
        layout="constrained",
    )
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.12)
    areas = list(grid.flat)
    x_axis = choose_x_axis(runs, quantity)
    for panel, area in zip(shown, areas, strict=False):
        draw_curves(area, runs, panel, x_axis)
    if tasks:
        draw_scores(areas[len(shown)], runs, tasks)
    for area in areas[count:]:
        area.set_visible(False)
    handles = make_legend(runs, bool(shown))
    legend_rows = math.ceil(len(handles) / (4 * columns))
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=math.ceil(len(handles) / legend_rows),
        frameon=False,
    )
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def has_curve(run, metric: str) -> bool:
    """Whether a run has any curve of a metric."""
    return run.pretraining is not None and any(name == metric for name, _ in run.pretraining.curves)


def choose_colour(index: int) -> str:
    """The colour of the run at this place."""
    return COLOURS[index % len(COLOURS)]


def draw_curves(area: Axes, runs: List, panel: Panel, x_axis: XAxis) -> None:
    """One panel's metrics of all runs: training faint, held-out data with marks at validations."""
    drawn = []
    for index, run in enumerate(runs):
        for metric, line in ((panel.metric, "-"), (panel.dashed, "--")):
            for split in ("train", "held out"):
                if not (run.pretraining and (metric, split) in run.pretraining.curves):
                    continue
                updates, values = run.pretraining.curves[metric, split]
                x = position(run.pretraining, x_axis.quantity, updates) / x_axis.unit
                every = math.ceil(len(updates) / MOST_MARKS)
                area.plot(
                    x, values, line, color=choose_colour(index), **choose_style(split, line, every)
                )
                drawn.append((x, np.asarray(values)))
    area.set_title(panel.title, fontsize="medium")
    area.set(xlabel=x_axis.label, ylabel=panel.label)
    area.set_xlim(left=0)
    area.set_ylim(*choose_limits(drawn))
    if panel.guess is not None:
        area.axhline(panel.guess, color="0.5", linewidth=0.8, linestyle=":", zorder=0)
    area.grid(alpha=0.25)
    area.spines[["top", "right"]].set_visible(False)
    mark_second_stages(area, runs, x_axis)
    if any(has_curve(run, panel.dashed) for run in runs):
        area.plot([], [], "--", color="0.3", linewidth=1.4, label=panel.dashed_label)
        area.legend(frameon=False, fontsize="small")


def choose_style(split: str, line: str, every: int) -> dict:
    """How a curve is drawn."""
    if split == "train":
        return {"linewidth": 0.9, "alpha": 0.35}
    style = {"marker": "o", "markersize": 3.5, "markevery": every, "linewidth": 1.8}
    return style if line == "-" else {**style, "linewidth": 1.4, "markerfacecolor": "white"}


def choose_limits(drawn: List[Tuple[np.ndarray, np.ndarray]]) -> Tuple[float, float]:
    """The y axis: what the curves reach, but for their first moments, and a little more."""
    end = max(x.max() for x, _ in drawn)
    kept = [values[(x >= BEGINNING * end) & np.isfinite(values)] for x, values in drawn]
    kept = np.concatenate(kept)
    if not len(kept):
        return 0.0, 1.0
    margin = 0.05 * (kept.max() - kept.min()) or 0.05 * abs(kept.max()) or 0.05
    return kept.min() - margin, kept.max() + margin


def mark_second_stages(area: Axes, runs: List, x_axis: XAxis) -> None:
    """A thin line where replaced-token detection begins, one where those of runs fall together."""
    marked: List[Tuple[float, str]] = []
    near = MERGED * area.get_xlim()[1]
    for index, run in enumerate(runs):
        pretraining = run.pretraining
        if not (pretraining and 0 < pretraining.mlm_updates < pretraining.updates()):
            continue
        x = float(position(pretraining, x_axis.quantity, pretraining.mlm_updates)) / x_axis.unit
        same = [place for place, (other, _) in enumerate(marked) if abs(x - other) < near]
        if same:
            marked[same[0]] = (marked[same[0]][0], "0.4")  # nobody's colour
        else:
            marked.append((x, choose_colour(index)))
    for x, colour in marked:
        area.axvline(x, color=colour, linewidth=0.7, alpha=0.7, zorder=0)
        area.annotate(
            "second stage",
            (x, 1),
            xycoords=("data", "axes fraction"),
            xytext=(2, -3),
            textcoords="offset points",
            rotation="vertical",
            va="top",
            fontsize="x-small",
            color=colour,
        )


def draw_scores(area: Axes, runs: List, tasks: Dict[Tuple[str, str], str]) -> None:
    """A group of bars a task: each run's median and its number, a dot for each of several seeds.

    The axis begins a little below the lowest score; the numbers say so too.
    """
    tuned = [(index, run) for index, run in enumerate(runs) if run.finetunings]
    width = GROUP_WIDTH / len(tuned)
    everything = []
    for group, key in enumerate(tasks):
        for place, (index, run) in enumerate(tuned):
            scores = [p.score for p in run.finetunings if (p.task, p.metric) == key]
            if not scores:
                continue
            everything += scores
            x = group + (place - (len(tuned) - 1) / 2) * width
            colour = choose_colour(index)
            area.bar(x, np.median(scores), 0.9 * width, color=colour, alpha=0.75)
            if len(scores) > 1:
                area.scatter([x] * len(scores), scores, color="0.2", s=9, zorder=3)
            area.annotate(
                f"{np.median(scores):.1f}",
                (x, max(scores)),
                xytext=(0, 4),
                textcoords="offset points",
                ha="center",
                fontsize="small",
            )
    area.set_title("Fine-tuned: best validation, median of the runs", fontsize="medium")
    lowest, highest = min(everything), max(everything)
    bottom = max(0, 10 * math.floor((lowest - 5) / 10))
    area.set(
        ylabel="%",
        xlim=(-0.6, len(tasks) - 0.4),
        ylim=(bottom, highest + 0.08 * (highest - bottom)),
    )
    names = [textwrap.fill(name, NAME_WIDTH) for name in tasks.values()]
    area.set_xticks(range(len(tasks)), names, fontsize="small")
    area.tick_params(axis="x", length=0)
    area.grid(alpha=0.25, axis="y")
    area.set_axisbelow(True)
    area.spines[["top", "right"]].set_visible(False)


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
