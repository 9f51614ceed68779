"""The table of check_gpu.sh, of whatever its steps have written so far.

In: OUT with STEP.json and STEP.log, and how each step ended. Out: OUT/report.md.
"""

import json
import re
from pathlib import Path
from typing import Dict, List

from scripts.benchmark.report import show_share

LAST_LINES = 3  # of the log of a step that failed


def write_report(out: Path, states: Dict[str, dict]) -> None:
    """Write OUT/report.md."""
    parts = [format_states(states, out)]
    for name, format_part in (
        ("machine", format_machine),
        ("speed", format_speed),
        ("profile", format_profile),
        ("training", format_training),
    ):
        result = read(out / f"{name}.json")
        if name in states and result:
            parts.append(format_part(result))
    (out / "report.md").write_text("\n".join(parts), "utf-8")


def read(path: Path) -> dict:
    """A step's result, or nothing."""
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def format_states(states: Dict[str, dict], out: Path) -> str:
    """How each step ended, with the end of the log if not well; failed tests by name."""
    lines = []
    for name, state in states.items():
        text = f"{name}: {state['state']}, {state['seconds']:.0f} s"
        log = (out / f"{name}.log").read_text("utf-8", errors="replace")
        if name == "tests":
            text += describe_tests(log)
        elif state["state"] != "ok":
            last = log.strip().splitlines()[-LAST_LINES:]
            text += "".join(f"\n    {line[:150]}" for line in last)
        lines.append(text)
    return "\n".join(lines) + "\n"


def describe_tests(log: str) -> str:
    """How many tests passed, which failed, and at the end of pytest's log why some were skipped."""
    ended = re.findall(r"^\S+::(.+?) (PASSED|FAILED|ERROR|SKIPPED)", log, re.MULTILINE)
    text = f"; {sum(result == 'PASSED' for _, result in ended)} passed"
    for name, result in ended:
        if result in ("FAILED", "ERROR"):
            reason = re.search(f"^(?:FAILED|ERROR) .*::{re.escape(name)} - (.*)", log, re.MULTILINE)
            text += f"\n    failed: {name}: {reason[1][:110] if reason else 'see tests.log'}"
    skipped = re.findall(r"^SKIPPED (\[\d+\]) \S+ (.*)", log, re.MULTILINE)
    return text + "".join(f"\n    skipped {times} {why[:110]}" for times, why in skipped)


def format_machine(machine: dict) -> str:
    known = ("device", "driver", "cuda", "torch", "fairseq", "transformers", "apex", "date")
    lines = ["; ".join(f"{key} {machine[key]}" for key in known if key in machine)]
    if "copy" in machine:
        lines.append(f"copy {machine['copy'] / 1e9:,.0f} GB/s, read and written")
    for name, peak in machine.get("peaks", {}).items():
        lines.append(f"matrix product {name} {peak / 1e12:.3g} TFLOP/s")
    return "\n".join(lines) + "\n"


def format_speed(speed: dict) -> str:
    """Tokens a second, beside the first row of each setting; the optimizer beside its bytes."""
    rows = [["", "setting", "tokens/s", "of the peak", "TFLOP/s", "step's memory"]]
    for row in speed["rows"]:
        if "note" in row:
            rows.append([row["title"], row["setting"], row["note"], "", "", ""])
            continue
        memory = row.get("step_bytes", row.get("activation_bytes", 0))
        rows.append(
            [
                row["title"],
                row["setting"],
                f"{row['tokens_per_second']:,.0f}",
                show_share(row["share_of_peak"]),
                f"{row['flops_per_second'] / 1e12:.3g}",
                f"{memory / 2**30:.1f} GiB",
            ]
        )
    text = join(rows)
    optimizers = [["optimizer step", "ms", "x a copy of as many bytes"]]
    for row in speed["optimizers"]:
        cells = [row["note"], ""] if "note" in row else [f"{row['milliseconds']:.2f}", ""]
        if "times_the_copy" in row:
            cells[1] = f"{row['times_the_copy']:.2f}"
        optimizers.append([row["name"], *cells])
    return text + ("\n" + join(optimizers) if speed["optimizers"] else "")


def format_profile(profile: dict) -> str:
    parts = []
    for row in profile["rows"]:
        parts.append(
            f"{row['setting']}: {row['step_ms']:.1f} ms a step; products {row['products']:.0%}, "
            f"attention {row['attention']:.0%} of the kernels' time, gaps {row['gaps']:.0%}; "
            f"{row['kernels']} kernels\n"
        )
        table = [["ms", "calls", "kernel"]]
        table += [[f"{each['ms']:.2f}", str(each["calls"]), each["name"]] for each in row["top"]]
        parts.append(join(table))
    return "\n".join(parts)


def format_training(training: dict) -> str:
    names = ["tokens_per_second", "updates", "compared_at", "gen_loss", "disc_loss", "disc_auc"]
    rows = [[f"fairseq-train, {training['data']}", *names]]
    for name, run in training["runs"].items():
        rows.append([name, *(f"{run[key]:,.4g}" if key in run else "-" for key in names)])
    return join(rows)


def join(rows: List[List[str]]) -> str:
    """A Markdown table; its first row is the header."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in lines)
