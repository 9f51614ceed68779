"""GLUE's tasks as their own files have them: columns, labels, metrics, and how to fine-tune.

In: a folder of one task (train.tsv, dev.tsv, perhaps test.tsv). Out: its splits as tables.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from fairseq_electra.text.prepare_task import Table, check_labels, check_numbers
from fairseq_electra.text.raw_text import read_rows

HELD_OUT = {"valid": "dev.tsv", "test": "test.tsv"}
YES_NO = ("0", "1")
ENTAILMENT = ("entailment", "not_entailment")
LARGEST = 5.0  # similarity; the head learns score / LARGEST, as the authors' does


@dataclass(frozen=True)
class GlueTask:
    """One task; the numbers of `labels` are those of the head's outputs."""

    name: str  # of its folder too
    texts: Tuple[str, ...]  # columns of the one or two sentences
    label: str  # column
    labels: Optional[Tuple[str, ...]]  # None: a number from 0 to 5
    metrics: Tuple[str, ...]  # the first one counts for the mean
    report: str = ""  # option of fairseq's criterion
    epochs: int = 3
    doubled: bool = False  # the order of the sentences means nothing: train on both
    headless: Tuple[str, ...] = ()  # columns of train and dev, where they have no header
    files: Tuple[Tuple[str, str, str], ...] = ()  # split, file, leaderboard's name, if unusual

    def splits(self) -> List[Tuple[str, str, str]]:
        """Split, file, name in tables and at the leaderboard."""
        usual = [(split, file, self.name) for split, file in HELD_OUT.items()]
        return [("train", "train.tsv", self.name), *(self.files or usual)]


TASKS = {
    task.name: task
    for task in (
        GlueTask(
            name="CoLA",
            texts=("sentence",),
            label="label",
            labels=YES_NO,
            metrics=("mcc", "accuracy"),
            report="--report-mcc",
            headless=("source", "label", "star", "sentence"),
        ),
        GlueTask("SST-2", ("sentence",), "label", YES_NO, ("accuracy",)),
        GlueTask(
            name="MRPC",
            texts=("#1 String", "#2 String"),
            label="Quality",
            labels=YES_NO,
            metrics=("accuracy", "f1"),
            report="--report-acc-and-f1",
            doubled=True,
        ),
        GlueTask(
            name="STS-B",
            texts=("sentence1", "sentence2"),
            label="score",
            labels=None,
            metrics=("spearman", "pearson"),
            report="--report-pearson-and-spearman",
            epochs=10,
            doubled=True,
        ),
        GlueTask(
            name="QQP",
            texts=("question1", "question2"),
            label="is_duplicate",
            labels=YES_NO,
            metrics=("accuracy", "f1"),
            report="--report-acc-and-f1",
        ),
        GlueTask(
            name="MNLI",
            texts=("sentence1", "sentence2"),
            label="gold_label",
            labels=("contradiction", "entailment", "neutral"),
            metrics=("accuracy",),
            files=(
                ("valid", "dev_matched.tsv", "MNLI-m"),
                ("valid1", "dev_mismatched.tsv", "MNLI-mm"),
                ("test", "test_matched.tsv", "MNLI-m"),
                ("test1", "test_mismatched.tsv", "MNLI-mm"),
            ),
        ),
        GlueTask("QNLI", ("question", "sentence"), "label", ENTAILMENT, ("accuracy",)),
        GlueTask("RTE", ("sentence1", "sentence2"), "label", ENTAILMENT, ("accuracy",), epochs=10),
    )
}


def find_tasks(glue_dir: Path, wanted: str) -> List[GlueTask]:
    """The task of that name, or `all` there are; ValueError if it is none or not there."""
    there = [task for task in TASKS.values() if (glue_dir / task.name / "train.tsv").is_file()]
    if wanted == "all" and there:
        return there
    if wanted not in (*TASKS, "all"):
        raise ValueError(f"TASK is one of {', '.join(TASKS)} or all, not '{wanted}'")
    if not any(task.name == wanted for task in there):
        name = "CoLA" if wanted == "all" else wanted
        raise ValueError(
            f"no {glue_dir / name / 'train.tsv'}: set GLUE_DIR to the folder that holds "
            "GLUE's own files, unpacked"
        )
    return [TASKS[wanted]]


def read_columns(path: Path, task: GlueTask, labelled: bool) -> Tuple[Dict[str, int], int]:
    """Place of each wanted column, and how many columns there are."""
    header = list(task.headless) if labelled and task.headless else next(read_rows(path), [])
    wanted = [*task.texts, *([task.label] if labelled else [])]
    missing = [name for name in wanted if name not in header]
    if missing:
        raise ValueError(
            f"{path}, line 1: no column {missing[0]!r} in the header: is it GLUE's {task.name}?"
        )
    return {name: header.index(name) for name in wanted}, len(header)


def read_split(path: Path, task: GlueTask, labelled: bool) -> Tuple[Table, List[int]]:
    """A file's rows, and the lines that were skipped as they lack a column (or have one more).

    Raises:
        ValueError: for a label that is none of the task's, and for a broken row of a test set,
            where the leaderboard wants a prediction for every row.
    """
    places, width = read_columns(path, task, labelled)
    table, skipped = Table(path, [], [], []), []
    for number, fields in enumerate(read_rows(path), start=1):
        if fields == [""] or (number == 1 and not (labelled and task.headless)):
            continue
        if len(fields) != width:
            skipped.append(number)
            continue
        table.lines.append(number)
        table.texts.append(tuple(fields[places[name]].strip() for name in task.texts))
        if labelled:
            table.labels.append(fields[places[task.label]].strip())
    if skipped and not labelled:
        raise ValueError(f"{path}, line {skipped[0]}: not {width} columns, as the header has")
    if not table.texts:
        raise ValueError(f"{path}: no rows")
    check_table(table, task)
    return table, skipped


def check_table(table: Table, task: GlueTask) -> None:
    """ValueError with file and line for a label that is none of the task's."""
    if not table.labels:
        return
    if task.labels is None:
        check_numbers(table, 0, LARGEST)
    else:
        check_labels(table, task.labels, f"label is none of {', '.join(task.labels)}:")


def read_task(glue_dir: Path, task: GlueTask) -> Tuple[Dict[str, Table], Dict[Path, List[int]]]:
    """All splits that are there; a test set may be absent. And the skipped lines by file."""
    tables, skipped = {}, {}
    for split, file, _ in task.splits():
        path = glue_dir / task.name / file
        if path.exists() or not split.startswith("test"):
            tables[split], lines = read_split(path, task, not split.startswith("test"))
            if lines:
                skipped[path] = lines
    return tables, skipped


def as_training_data(tables: Dict[str, Table], task: GlueTask) -> Dict[str, Table]:
    """The tables as the head learns them: similarity from 0 to 1, a doubled training set."""
    made = dict(tables)
    if task.labels is None:
        for split, table in tables.items():
            labels = [f"{float(label) / LARGEST:.6g}" for label in table.labels]
            made[split] = table._replace(labels=labels)
    if task.doubled:
        train = made["train"]
        swapped = [tuple(reversed(texts)) for texts in train.texts]
        made["train"] = Table(
            train.path, train.lines * 2, train.labels * 2, [*train.texts, *swapped]
        )
    return made
