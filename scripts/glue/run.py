"""Fine-tune a checkpoint on GLUE's own files with several seeds, predict, measure, tabulate.

In: a task (or all), a pre-training checkpoint (or none), GLUE's folder. Out: OUT_DIR with data,
runs and predictions of each task, results.json, a table on stdout, leaderboard/*.tsv. What is done
is not redone: run it again to resume, or to add tasks and seeds.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

from fairseq import checkpoint_utils

from fairseq_electra.data.tokenizer import INFO_FILE, load_tokenizer
from fairseq_electra.hub.predict_sentences import load_predictor, predict
from fairseq_electra.new_folder import exit_on_signals, new_folder
from fairseq_electra.text.prepare_task import MAX_TOKENS, Table, write_task
from scripts.glue.metrics import measure, predict_majority
from scripts.glue.summary import summarize, write_results
from scripts.glue.tasks import LARGEST, GlueTask, as_training_data, find_tasks, read_task

SCRIPTS = Path(__file__).resolve().parents[1]
ENVIRONMENT = """environment:
  GLUE_DIR      GLUE's own files, a folder a task: CoLA/train.tsv, CoLA/dev.tsv[, CoLA/test.tsv] ...
  DATA          data-bin whose tokenizer is used (default: CHECKPOINT's own folder, or the data
                that it was trained on)
  SEEDS         default "1 2 3"
  SIZE, MODEL   small, base, large, tiny; electra (default), roberta
  EPOCHS, BATCH, LAYER_DECAY  instead of the recipe's
"""


class Settings(NamedTuple):
    """What all tasks have in common."""

    checkpoint: str
    out_dir: Path
    glue_dir: Path
    data: Path
    seeds: List[int]
    options: List[str]


def find_data(checkpoint: str, given: Optional[str]) -> Path:
    """The folder with the tokenizer: DATA, the checkpoint's own, or the data it was trained on.

    Raises:
        ValueError: if there is no checkpoint, or no tokenizer.
    """
    if checkpoint == "none" and not given:
        raise ValueError("set DATA to a data-bin: CHECKPOINT none does not say which tokenizer")
    if checkpoint != "none" and not Path(checkpoint).is_file():
        raise ValueError(f"{checkpoint}: no such checkpoint")
    if given:
        data = Path(given)
    elif (Path(checkpoint).parent / INFO_FILE).is_file():
        data = Path(checkpoint).parent
    else:
        data = Path(checkpoint_utils.load_checkpoint_to_cpu(checkpoint)["cfg"]["task"]["data"])
        if not data.is_dir():
            raise ValueError(f"{checkpoint} was trained on {data}, which is not there: set DATA")
    load_tokenizer(data)  # before OUT_DIR is claimed for it
    return data


def claim_folder(settings: Settings) -> None:
    """Note in OUT_DIR what its runs start from; ValueError if it holds runs of something else."""
    given = settings.checkpoint
    start = {
        "checkpoint": given if given == "none" else str(Path(given).resolve()),
        "data": str(settings.data.resolve()),
        "MODEL": os.environ.get("MODEL", "electra"),
        "SIZE": os.environ.get("SIZE", "small"),
    }
    note = settings.out_dir / "start.json"
    settings.out_dir.mkdir(parents=True, exist_ok=True)
    if not note.exists():
        note.write_text(json.dumps(start, indent=1) + "\n", "utf-8")
    before = json.loads(note.read_text("utf-8"))
    if before != start:
        differ = ", ".join(
            f"{key} {before.get(key)}" for key in start if before.get(key) != start[key]
        )
        raise ValueError(f"{settings.out_dir} holds runs of {differ}: name another OUT_DIR")


def prepare(task: GlueTask, tables: Dict[str, Table], settings: Settings) -> None:
    """Make the task's data, OUT_DIR/TASK/bin, once; prints what was cut or empty."""
    task_bin = settings.out_dir / task.name / "bin"
    if not task_bin.is_dir():
        tokenizer = load_tokenizer(settings.data)
        with new_folder(task_bin) as folder:
            data = as_training_data(tables, task)
            counts = write_task(data, task.labels, tokenizer, MAX_TOKENS, folder)
        sizes = ", ".join(f"{split} {len(table.texts)}" for split, table in data.items())
        print(f"{task.name}: {sizes} texts, {counts}", flush=True)


def report_skipped(skipped: Dict[Path, List[int]]) -> None:
    """A line for each file with broken rows."""
    for path, lines in skipped.items():
        print(f"{path}: skipped {len(lines)} broken rows, the first in line {lines[0]}")


def train(task: GlueTask, task_bin: Path, run_dir: Path, seed: int, settings: Settings) -> None:
    """One run of finetune.sh, all epochs; SystemExit with the log's reason if it fails."""
    command = [
        *(SCRIPTS / "finetune.sh", task_bin, run_dir, settings.checkpoint),
        *("--seed", seed),
        *task.report.split(),
        *settings.options,
    ]
    returncode, log = run_quietly([str(word) for word in command], {"EPOCHS": str(task.epochs)})
    if returncode != 0:
        raise SystemExit(f"finetune_glue.sh: {run_dir}: {explain_failure(log)}")


def run_quietly(command: List[str], defaults: Dict[str, str]) -> Tuple[int, str]:
    """Exit status and output of a command, which ends with this program if that is killed."""
    with exit_on_signals():
        process = subprocess.Popen(
            command,
            env={**defaults, **os.environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            log, _ = process.communicate()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
    return process.returncode, log


def explain_failure(log: str) -> str:
    """What fairseq logged as an error, otherwise the last line."""
    lines = [line for line in log.splitlines() if line.strip()] or ["no output"]
    errors = [line for line in lines if " | ERROR | " in line]
    return (errors or lines)[-1]


def write_predictions(task: GlueTask, name: str, predictions: List[str], path: Path) -> None:
    """A file in the leaderboard's format: index, tab, prediction."""
    if task.labels is None:
        clipped = [min(max(float(value), 0.0), LARGEST) for value in predictions]
        predictions = [f"{value:.3f}" for value in clipped]
    rows = "".join(f"{index}\t{value}\n" for index, value in enumerate(predictions))
    (path / f"{name}.tsv").write_text(f"index\tprediction\n{rows}", "utf-8")


def judge(task: GlueTask, task_bin: Path, run_dir: Path, tables: Dict[str, Table]) -> dict:
    """Predict dev and test sets with the last checkpoint; metrics of the dev sets by name."""
    predictor = load_predictor(run_dir / "checkpoint_last.pt", task_bin)
    scores = {}
    for split, _, name in task.splits():
        if split == "train" or split not in tables:
            continue
        predictions = predict(predictor, split)
        if task.labels is None:
            predictions = [f"{LARGEST * float(value):.6f}" for value in predictions]
        part = run_dir / ("test" if split.startswith("test") else "dev")
        part.mkdir(exist_ok=True)
        write_predictions(task, name, predictions, part)
        if tables[split].labels:
            scores[name] = measure(task.metrics, predictions, tables[split].labels)
    return scores


def run_seed(task: GlueTask, seed: int, tables: Dict[str, Table], settings: Settings) -> None:
    """Train, predict, measure, once: scores.json is written last."""
    task_bin = settings.out_dir / task.name / "bin"
    run_dir = settings.out_dir / task.name / f"seed-{seed}"
    scores_file = run_dir / "scores.json"
    if not scores_file.exists():
        print(f"{task.name} seed {seed}: fine-tuning, see {run_dir}/train.log", flush=True)
        train(task, task_bin, run_dir, seed, settings)
        scores = judge(task, task_bin, run_dir, tables)
        (run_dir / "checkpoint_best.pt").unlink(missing_ok=True)  # as the authors, the last counts
        scores_file.write_text(json.dumps(scores) + "\n", "utf-8")
        text = ", ".join(f"{k} {v:.1f}" for part in scores.values() for k, v in part.items())
        print(f"{task.name} seed {seed}: {text}", flush=True)


def measure_majority(task: GlueTask, tables: Dict[str, Table]) -> dict:
    """Metrics of always giving the most frequent label, or of one number for all."""
    majority = {}
    for split, _, name in task.splits():
        if split.startswith("valid"):
            labels = tables[split].labels
            guesses = predict_majority(tables["train"].labels, len(labels))
            majority[name] = measure(task.metrics, guesses, labels)
    return majority


def start_task(task: GlueTask, settings: Settings) -> Dict[str, Table]:
    """Read a task's files, make its data, note what knowing nothing gives."""
    tables, skipped = read_task(settings.glue_dir, task)
    report_skipped(skipped)
    prepare(task, tables, settings)
    majority = json.dumps(measure_majority(task, tables)) + "\n"
    (settings.out_dir / task.name / "majority.json").write_text(majority, "utf-8")
    return tables


def run_all(tasks: List[GlueTask], settings: Settings) -> None:
    """Every task with the first seed, then with the next: a part of the runs is a result too."""
    started = [(task, start_task(task, settings)) for task in tasks]
    for seed in settings.seeds:
        for task, tables in started:
            run_seed(task, seed, tables, settings)
    for task in tasks:
        copy_best_test(task, settings.out_dir)


def copy_best_test(task: GlueTask, out_dir: Path) -> None:
    """Test predictions of the run that is best on the dev set -> leaderboard/."""
    runs = sorted((out_dir / task.name).glob("seed-*/scores.json"))
    name = task.splits()[1][2]
    best = max(runs, key=lambda path: json.loads(path.read_text())[name][task.metrics[0]])
    for file in sorted((best.parent / "test").glob("*.tsv")):
        (out_dir / "leaderboard").mkdir(exist_ok=True)
        shutil.copy(file, out_dir / "leaderboard" / file.name)


def read_seeds(text: str) -> List[int]:
    """Whole numbers between spaces; ValueError otherwise."""
    if not text.split() or not all(word.isdecimal() for word in text.split()):
        raise ValueError(f'SEEDS are whole numbers, as "1 2 3", not "{text}"')
    return list(dict.fromkeys(map(int, text.split())))


def parse_args(argv: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="finetune_glue.sh",
        description=__doc__,
        epilog=ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("task", metavar="TASK", help="CoLA, SST-2, ... or all that GLUE_DIR has")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="of pre-training, or none")
    parser.add_argument("out_dir", metavar="OUT_DIR", type=Path)
    parser.add_argument(
        "options", nargs=argparse.REMAINDER, metavar="...", help="fairseq-train options"
    )
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    env = os.environ
    try:
        tasks = find_tasks(Path(env.get("GLUE_DIR", "glue")), args.task)
        settings = Settings(
            checkpoint=args.checkpoint,
            out_dir=args.out_dir,
            glue_dir=Path(env.get("GLUE_DIR", "glue")),
            data=find_data(args.checkpoint, env.get("DATA")),
            seeds=read_seeds(env.get("SEEDS", "1 2 3")),
            options=args.options,
        )
        claim_folder(settings)
        run_all(tasks, settings)
        results = summarize(settings.out_dir)
        print(write_results(results, settings.out_dir), end="")
    except (ValueError, OSError) as error:
        sys.exit(f"finetune_glue.sh: {error}")
