"""Tables of GLUE results: median, best and range over seeds, mean over tasks.

In: folders made by finetune_glue.sh, [NAME=]OUT_DIR. Out: a markdown table, a column a model.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Dict, List, Tuple

from scripts.glue.tasks import TASKS

COUNTED = {"MNLI-mm": False}  # the mean has the matched set alone, as the authors' has


def summarize(out_dir: Path) -> Dict[str, Dict[str, dict]]:
    """{name of a dev set: {metric: median, best, lowest, highest, sd, scores, majority}}.

    Raises:
        ValueError: if the folder holds no finished run.
    """
    results = {}
    for task in TASKS.values():
        runs = sorted((out_dir / task.name).glob("seed-*/scores.json"))
        scores = [json.loads(path.read_text("utf-8")) for path in runs]
        if not scores:
            continue
        majority = json.loads((out_dir / task.name / "majority.json").read_text("utf-8"))
        for name in scores[0]:
            results[name] = {
                metric: {
                    **describe([score[name][metric] for score in scores]),
                    "majority": majority[name][metric],
                }
                for metric in task.metrics
            }
    if not results:
        raise ValueError(f"{out_dir}: no finished run in it")
    return results


def describe(scores: List[float]) -> dict:
    """The numbers of one metric over seeds."""
    return {
        "median": statistics.median(scores),
        "best": max(scores),
        "lowest": min(scores),
        "sd": statistics.stdev(scores) if len(scores) > 1 else 0.0,
        "scores": scores,
    }


def average(results: Dict[str, Dict[str, dict]], names: List[str], key: str) -> float:
    """Mean over tasks of the first metric of each."""
    first = [next(iter(results[name].values())) for name in names if COUNTED.get(name, True)]
    return statistics.mean(summary[key] for summary in first)


def format_cell(summary: dict) -> str:
    """62.1 (60.5 to 64.0, sd 1.4 of 3): the median, then range and standard deviation."""
    text = f"{summary['median']:.1f}"
    if len(summary["scores"]) > 1:
        text += f" ({summary['lowest']:.1f} to {summary['best']:.1f}, sd {summary['sd']:.1f}"
        text += f" of {len(summary['scores'])})"
    return text


def format_table(models: Dict[str, Dict[str, Dict[str, dict]]]) -> str:
    """A row a metric, a column a model; the mean over the tasks that all models have."""
    names = [
        name for name in next(iter(models.values())) if all(name in m for m in models.values())
    ]
    first = next(iter(models.values()))
    lines = [["task", "metric", "majority", *models]]
    for name in names:
        for metric, summary in first[name].items():
            cells = [format_cell(results[name][metric]) for results in models.values()]
            lines.append([name, metric, f"{summary['majority']:.1f}", *cells])
    if len(names) > 1:
        for title, key in (("mean of medians", "median"), ("mean of best", "best")):
            cells = [f"{average(results, names, key):.1f}" for results in models.values()]
            majority = f"{average(first, names, 'majority'):.1f}"
            lines.append([title, "first of each", majority, *cells])
    return "".join(
        f"| {' | '.join(cells)} |\n" for cells in (lines[0], ["---"] * len(lines[0]), *lines[1:])
    )


def write_results(results: Dict[str, Dict[str, dict]], out_dir: Path) -> str:
    """Write results.json and results.md; the table."""
    table = format_table({out_dir.resolve().name: results})
    (out_dir / "results.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    (out_dir / "results.md").write_text(table, "utf-8")
    return table


def split_name(word: str) -> Tuple[str, Path]:
    """NAME=OUT_DIR, or OUT_DIR with its own name."""
    name, equals, folder = word.rpartition("=")
    return (name, Path(folder)) if equals else (Path(word).resolve().name, Path(word))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="[NAME=]OUT_DIR", help="of finetune_glue.sh")
    args = parser.parse_args()
    try:
        models = {name: summarize(path) for name, path in map(split_name, args.runs)}
        print(format_table(models), end="")
    except (ValueError, OSError) as error:
        raise SystemExit(f"summarize_glue.py: {error}") from None
