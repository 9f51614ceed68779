"""Whether the labels of fairseq's sentence tasks fit the head and the texts, before they are read.

fairseq's own messages name no file, and a label without an output fails in the loss.
"""

import math
from functools import partial
from pathlib import Path
from typing import Callable

from fairseq.data import data_utils
from fairseq.tasks.sentence_prediction import SentencePredictionTask
from fairseq.tasks.sentence_ranking import SentenceRankingTask

FILLING = "madeupword"  # fairseq pads its dictionaries with these


def check_labels(task) -> None:
    """Look at the labels of all splits, if this is one of fairseq's sentence tasks.

    Raises:
        ValueError: naming the file, and the line or entry.
    """
    if isinstance(task, SentencePredictionTask):
        data = Path(task.cfg.data)
        if task.cfg.regression_target:
            check_lines(data, partial(check_targets, number=task.cfg.num_classes))
        else:
            check_classes(data, task.label_dictionary, task.cfg.num_classes)
            check_entries(data, task.label_dictionary)
    elif isinstance(task, SentenceRankingTask):
        check_lines(Path(task.args.data), partial(check_option, options=task.args.num_classes))


def check_classes(data: Path, dictionary, classes: int) -> None:
    """Compare --num-classes with the labels of label/dict.txt; ValueError if it is too small."""
    symbols = dictionary.symbols[dictionary.nspecial :]
    labels = [s for s in symbols if s != "<mask>" and not s.startswith(FILLING)]
    if classes < len(labels):
        raise ValueError(
            f"--num-classes {classes}, but {data / 'label' / 'dict.txt'} has "
            f"{len(labels)} labels: {', '.join(labels[:5])}{' ...' if len(labels) > 5 else ''}"
        )


def check_lines(data: Path, check_line: Callable[[str], None]) -> None:
    """Look at label/SPLIT.label, a line a text; `check_line` raises ValueError with the reason."""
    for path in sorted((data / "label").glob("*.label")):
        lines = 0
        try:
            with path.open(encoding="utf-8") as file:
                for line in file:
                    lines += 1
                    check_line(line)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8, after line {lines}") from error
        except ValueError as error:
            raise ValueError(f"{path}, line {lines}: {error}") from error
        check_number(path, lines, data)


def check_targets(line: str, number: int) -> None:
    """The targets of a regression."""
    values = line.split()
    if len(values) != number:
        raise ValueError(f"{len(values)} numbers, where --num-classes is {number}: {shown(line)}")
    try:
        finite = all(math.isfinite(float(value)) for value in values)
    except ValueError:
        finite = False
    if not finite:
        raise ValueError(f"not a number: {shown(line)}")


def check_option(line: str, options: int) -> None:
    """The number of the right one among a ranking's options."""
    try:
        fits = 0 <= int(line) < options
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"not the number of an option, 0 to {options - 1}: {shown(line)}")


def shown(line: str) -> str:
    """A line that may be long, or hold control characters."""
    return ascii(line.strip()[:40])


def check_entries(data: Path, dictionary) -> None:
    """Look at label/SPLIT.bin: one word of label/dict.txt a text."""
    for idx in sorted((data / "label").glob("*.idx")):
        labels = data_utils.load_indexed_dataset(str(idx.with_suffix("")), dictionary)
        for entry, ids in enumerate(labels):
            label = ids[ids != dictionary.eos()]
            if len(label) != 1 or label.item() < dictionary.nspecial:
                raise ValueError(
                    f"{idx.with_suffix('.bin')}, entry {entry}: {dictionary.string(ids)!r} is not "
                    f"one label of {idx.with_name('dict.txt')}"
                )
        check_number(idx, len(labels), data)


def check_number(path: Path, labels: int, data: Path) -> None:
    """ValueError unless a split, the stem of `path`, has as many texts as labels."""
    inputs = data / "input0" / path.stem
    texts = data_utils.load_indexed_dataset(str(inputs), None)
    if texts is not None and len(texts) != labels:
        raise ValueError(f"{path} has {labels} labels, {inputs} has {len(texts)} texts")
