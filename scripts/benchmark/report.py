"""The benchmark's figures as tables, JSON and a plot."""

import json
import math
from pathlib import Path
from typing import Callable, Dict, List, Optional

from fairseq_electra.runs.plotting import plot_to

BASELINE = "Hugging Face sdpa, float32"


def write_report(result: Dict, folder: Path) -> None:
    """benchmark.json, benchmark.md and, if there is something to draw, benchmark.png."""
    (folder / "benchmark.json").write_text(json.dumps(result, indent=1) + "\n")
    sections = [format_machine(result)]
    sections += [FORMATS[part](result[part]) for part in FORMATS if part in result]
    (folder / "benchmark.md").write_text("\n\n".join(sections) + "\n")
    if "step" in result:
        with plot_to(folder / "benchmark.png"):
            plot_steps(result["step"], folder / "benchmark.png")


def format_machine(result: Dict) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in result["machine"].items())
    return f"`{result['command'].strip()}`\n\n{machine}"


def make_table(header: List[str], rows: List[List[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def format_steps(settings: List[Dict]) -> str:
    return "\n\n".join(format_setting(setting) for setting in settings)


def format_setting(setting: Dict) -> str:
    """The contenders at one setting, and the machine's peak."""
    rates = {row["name"]: row.get("tokens_per_second") for row in setting["rows"]}
    header = ["", "tokens/s", "range", f"x {BASELINE}", "GFLOP/s", "of peak", "KB/token", "MB"]
    rows = [
        [row["name"], row["note"], *[""] * (len(header) - 2)]
        if "note" in row
        else format_contender(row, rates.get(BASELINE))
        for row in setting["rows"]
    ]
    peaks = ", ".join(f"{dtype} {peak / 1e9:,.0f}" for dtype, peak in setting["peaks"].items())
    on_gpu = any("step_bytes" in row for row in setting["rows"])
    kept = (
        "GPU memory that a step takes at most, outside of CUDA graphs"
        if on_gpu
        else "kept for the backward pass"
    )
    return (
        f"**{setting['setting']}**: training steps, medians of {setting['rounds']} rounds; "
        f"peak of a matrix product in GFLOP/s: {peaks}. KB/token: {kept}. "
        f"MB: weights, gradients, optimizer.\n\n{make_table(header, rows)}"
    )


def format_contender(row: Dict, baseline: Optional[float]) -> List[str]:
    """A contender's cells; `baseline` tokens/s."""
    return [
        row["name"],
        f"{row['tokens_per_second']:,.0f}",
        f"{row['slowest']:,.0f} to {row['fastest']:,.0f}",
        f"{row['tokens_per_second'] / baseline:.2f}" if baseline else "not run",
        f"{row['flops_per_second'] / 1e9:,.0f}",
        show_share(row["share_of_peak"]),
        f"{row.get('step_bytes', row.get('activation_bytes')) / row['tokens'] / 1024:,.0f}",
        f"{row['state_bytes'] / 2**20:,.0f}",
    ]


def show_share(share: float) -> str:
    """12 % of the peak as "12%"; "-" where there was none to measure (NaN)."""
    return "-" if math.isnan(share) else f"{share:.0%}"


def format_growth(rows: List[Dict]) -> str:
    cells = [
        [row["name"], row["note"], ""]
        if "note" in row
        else [
            row["name"],
            f"{row['tokens_per_second']:,.0f}",
            f"{row['flops_per_second'] / 1e9:,.0f}",
        ]
        for row in rows
    ]
    return "Growth, bf16:\n\n" + make_table(["", "tokens/s", "GFLOP/s"], cells)


def format_padding(rows: List[Dict]) -> str:
    """Real tokens a second over the share of padding."""
    names = list(rows[0]["training"])
    header = [
        "padding",
        *(f"{kind}: {name}" for kind in ("training", "inference") for name in names),
    ]
    cells = [
        [
            f"{row['padding']:.0%}",
            *(f"{row[kind][name]:,.0f}" for kind in ("training", "inference") for name in names),
        ]
        for row in rows
    ]
    return (
        f"Padding, one batch of sentences, tokens/s without padding:\n\n{make_table(header, cells)}"
    )


def format_optimizer(rows: List[Dict]) -> str:
    cells = [
        [row["name"], row["note"], ""]
        if "note" in row
        else [row["name"], f"{row['milliseconds']:.1f}", f"{row['times_the_copy']:.2f}"]
        for row in rows
    ]
    return "Optimizer step:\n\n" + make_table(["", "ms", "x copy of the bytes moved"], cells)


def format_layer_norm(rows: List[Dict]) -> str:
    cells = [
        [row["name"], row["note"] if "note" in row else f"{row['milliseconds']:.3f}"]
        for row in rows
    ]
    return "LayerNorm, forward and backward pass:\n\n" + make_table(["", "ms"], cells)


def format_loading(rows: List[Dict]) -> str:
    cells = [[str(row["workers"]), f"{row['tokens_per_second']:,.0f}"] for row in rows]
    return "Loading:\n\n" + make_table(["--num-workers", "tokens/s"], cells)


def format_training(rows: List[Dict]) -> str:
    cells = [
        [
            row["name"],
            f"{row['fairseq_train']:,.0f}",
            f"{row['bare']:,.0f}",
            f"{row['share']:.0%}",
        ]
        for row in rows
    ]
    return "fairseq-train:\n\n" + make_table(["", "tokens/s", "the bare step", "share"], cells)


FORMATS: Dict[str, Callable] = {
    "step": format_steps,
    "growth": format_growth,
    "padding": format_padding,
    "optimizer": format_optimizer,
    "layernorm": format_layer_norm,
    "loading": format_loading,
    "train": format_training,
}


def plot_steps(settings: List[Dict], path: Path) -> None:
    """Bars: tokens a second of every contender, a panel a setting."""
    import matplotlib  # here, once benchmark.py has silenced what it logs

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(
        len(settings), 1, figsize=(8, 1 + 3.2 * len(settings)), squeeze=False, layout="constrained"
    )
    for panel, setting in zip(panels[:, 0], settings):
        measured = [row for row in setting["rows"] if "note" not in row]
        rows = sorted(measured, key=lambda row: row["tokens_per_second"])
        names = [row["name"] for row in rows]
        rates = [row["tokens_per_second"] for row in rows]
        ours = ["#1b6ca8" if name.startswith("fairseq_electra") else "#b0b0b0" for name in names]
        bars = panel.barh(names, rates, color=ours)
        panel.bar_label(
            bars, [f"{show_share(row['share_of_peak'])} of peak" for row in rows], padding=3
        )
        panel.margins(x=0.15)
        panel.set_title(setting["setting"])
        panel.set_xlabel("tokens/s")
    figure.savefig(path, dpi=120)
    plt.close(figure)
