"""The table of check_gpu.sh, of whatever its steps have written so far.

In: OUT with STEP.json, STEP.log, tests.xml, and how each step ended. Out: OUT/report.md.
"""

import json
from pathlib import Path
from typing import Dict, List
from xml.etree import ElementTree

LAST_LINES = 3  # of the log of a step that failed


def write_report(out: Path, states: Dict[str, dict]) -> None:
    """Write OUT/report.md."""
    parts = [format_states(states, out)]
    machine = read(out / "machine.json")
    for name, format_part in (
        ("machine", format_machine),
        ("speed", format_speed),
        ("profile", format_profile),
        ("training", format_training),
    ):
        result = read(out / f"{name}.json")
        if name in states and result:
            parts.append(format_part(result, machine))
    (out / "report.md").write_text("\n".join(parts), "utf-8")


def read(path: Path) -> dict:
    """A step's result, or nothing."""
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def format_states(states: Dict[str, dict], out: Path) -> str:
    """How each step ended, with the end of the log if not well; failed tests by name."""
    lines = []
    for name, state in states.items():
        text = f"{name}: {state['state']}, {state['seconds']:.0f} s"
        if name == "tests":
            text += describe_tests(out / "tests.xml")
        elif state["state"] != "ok":
            log = (out / f"{name}.log").read_text("utf-8", errors="replace").strip().splitlines()
            text += "".join(f"\n    {line[:150]}" for line in log[-LAST_LINES:])
        lines.append(text)
    return "\n".join(lines) + "\n"


def describe_tests(path: Path) -> str:
    """How many tests passed, which failed, which were skipped and why."""
    if not path.exists():
        return "; no test has ended"
    cases = list(ElementTree.parse(path).iter("testcase"))
    bad = [c for c in cases if c.find("failure") is not None or c.find("error") is not None]
    skipped = [c for c in cases if c.find("skipped") is not None]
    text = f"; {len(cases) - len(bad) - len(skipped)} passed"
    for case in bad:
        problem = case.find("failure") if case.find("failure") is not None else case.find("error")
        text += (
            f"\n    failed: {case.get('name')}: {problem.get('message', '').splitlines()[0][:110]}"
        )
    for case in skipped:
        text += (
            f"\n    skipped: {case.get('name')}: {case.find('skipped').get('message', '')[:110]}"
        )
    return text


def format_machine(machine: dict, _: dict) -> str:
    known = ("device", "driver", "cuda", "torch", "fairseq", "transformers", "apex", "date")
    lines = ["; ".join(f"{key} {machine[key]}" for key in known if key in machine)]
    if "copy" in machine:
        lines.append(f"copy {machine['copy'] / 1e9:,.0f} GB/s, read and written")
    for name, peak in machine.get("peaks", {}).items():
        lines.append(f"matrix product {name} {peak / 1e12:.3g} TFLOP/s")
    return "\n".join(lines) + "\n"


def format_speed(speed: dict, machine: dict) -> str:
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
                f"{row['share_of_peak']:.0%}",
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


def format_profile(profile: dict, _: dict) -> str:
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


def format_training(training: dict, _: dict) -> str:
    names = ["tokens_per_second", "updates", "compared_at", "gen_loss", "disc_loss", "disc_auc"]
    rows = [[f"fairseq-train, {training['data']}", *names]]
    for name, run in training["runs"].items():
        rows.append([name, *(f"{run[key]:,.4g}" if key in run else "-" for key in names)])
    return join(rows)


def join(rows: List[List[str]]) -> str:
    """A Markdown table; its first row is the header."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in lines)
