"""What is known of reproduce.sh's runs: cost, held-out losses, scores.

In: a planned run, OUT_DIR with logs and results, at any moment. Out: a dict; a key is missing where
nothing is known yet.
"""

import json
import statistics
from contextlib import suppress
from pathlib import Path
from typing import Dict, List, Optional

import numpy as np

from fairseq_electra.runs.measure_runs import (
    Pretraining,
    measure_finetuning,
    measure_pretraining,
    name_kind,
)
from fairseq_electra.runs.read_logs import find_log, read_log
from scripts.glue.summary import COUNTED, describe, summarize

GLUE_MEAN = "mean of {} GLUE dev sets (%)"  # of so many tasks
HALF_PRECISION = ("fp16", "bf16", "amp")  # fairseq's options


def read_result(run: dict, out_dir: Path, peaks: Dict[str, float]) -> dict:
    """All that is known of a planned run; a key is missing where nothing is known yet."""
    result = {key: run[key] for key in ("name", "title", "model", "budget", "seed", "is_ablation")}
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
    done = sorted((out_dir / "done").glob(f"tag-{run['name']}-seed-[0-9]*"))
    folders = [
        out_dir / "tagged" / run["name"] / f"seed-{path.name.rpartition('-')[2]}" for path in done
    ]
    if folders:
        scores = [measure_finetuning(read_log(find_log(folder))).score for folder in folders]
        result["tags"] = describe(scores)
    for name in ("pairs", "features"):
        if (out_dir / "done" / f"{name}-{run['name']}").exists():
            result[name] = json.loads((out_dir / name / f"{run['name']}.json").read_text("utf-8"))
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
    peak = peaks.get("bf16" if half else "float32")
    return {
        "updates": updates,
        "tokens": float(pretraining.tokens_at(updates)),
        "flops": float(pretraining.flops_at(updates)),
        "hours": float(pretraining.hours_at(updates)),
        "tokens_per_second": speed,
        "share_of_peak": speed and peak and speed * (pretraining.flops_per_token or np.nan) / peak,
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
    return describe(means)


def read_probe(result: dict) -> Optional[float]:
    """Percent of words whose tag a linear map of a run's frozen features gives."""
    return result.get("features", {}).get("last", {}).get("probe")


def list_scores(result: dict, tasks: List[str]) -> Dict[str, List[float]]:
    """A run's scores by what a curve is drawn of, [] where there are none yet."""
    mean, tags = average_scores(result.get("glue"), tasks), result.get("tags")
    probe = read_probe(result)
    return {
        GLUE_MEAN: mean["scores"] if mean else [],
        "tags, fine-tuned: F1 (%)": tags["scores"] if tags else [],
        "tags by frozen features (%)": [] if probe is None else [probe],
    }


def join_seeds(results: List[dict], tasks: List[str]) -> Dict[str, List[dict]]:
    """Points of the curves: a model at a budget, over its pre-training seeds.

    `score` has median, lowest and best over the fine-tunings of all of them; a run that has none
    yet is left out, and so is a curve without points.
    """
    curves: Dict[str, List[dict]] = {}
    for title, budget in dict.fromkeys((result["title"], result["budget"]) for result in results):
        own = [r for r in results if (r["title"], r["budget"]) == (title, budget)]
        found = [(run, list_scores(run, tasks)) for run in own]
        for name in found[0][1]:
            scored = [(run, scores[name]) for run, scores in found if scores[name]]
            if scored:
                point = {
                    key: statistics.mean(run[key] for run, _ in scored)
                    for key in ("flops", "hours")
                }
                every = [score for _, scores in scored for score in scores]
                point.update(title=title, score=describe(every))
                curves.setdefault(name, []).append(point)
    return curves
