"""What the options of a fine-tuning follow from: how many examples there are, and of what.

In: a folder of prepare_task.py, prepare_tagging.py or prepare_squad.py. Out: the number of
examples, options of fairseq-train. ValueError or FileNotFoundError with the file's name.
"""

import argparse
import logging
import re
from dataclasses import fields
from pathlib import Path
from typing import List, NamedTuple, Sequence

from fairseq_electra.data.conll import read_conll, read_lines

HIGHEST = "--maximize-best-checkpoint-metric --best-checkpoint-metric"
MARKS_ENTITIES = re.compile(r"(O|[BIES]-.+)")
WINDOW_SIZES = ("tokens_per_sample", "doc_stride", "max_query_length")


class FinetuneData(NamedTuple):
    """Of a training set: its examples, and the options that it asks for."""

    examples: int
    goal: str


def read_finetune_data(kind: str, folder: Path, options: Sequence[str]) -> FinetuneData:
    """What a folder holds; `kind` is a key of recipes.FINETUNE_TASKS, `options` fairseq-train's."""
    readers = {"sentences": read_sentences, "tags": read_tags}
    return readers[kind](folder) if kind in readers else read_answers(folder, options)


def read_sentences(folder: Path) -> FinetuneData:
    """Sentences or pairs with classes, or with numbers."""
    labels = folder / "label"
    require(folder, "prepare-task", labels / "dict.txt", labels / "train.label")
    examples = count_examples(folder / "input0" / "train")
    if (labels / "train.label").is_file():
        return FinetuneData(
            examples, "--regression-target --num-classes 1 --best-checkpoint-metric loss"
        )
    return FinetuneData(
        examples, f"--num-classes {len(read_labels(labels / 'dict.txt'))} {HIGHEST} accuracy"
    )


def read_tags(folder: Path) -> FinetuneData:
    """Tagged words; tags that mark no entities have no F1 (criterions/entity_counts.py).

    A sentence that is cut into two examples ends the last epoch an example early.
    """
    require(folder, "prepare-tagging", folder / "train.conll")
    require(folder, "prepare-tagging", folder / "label" / "dict.txt")
    tags = read_labels(folder / "label" / "dict.txt")
    best = "f1" if all(map(MARKS_ENTITIES.fullmatch, tags)) else "accuracy"
    return FinetuneData(len(read_conll(folder / "train.conll")), f"{HIGHEST} {best}")


def read_answers(folder: Path, options: Sequence[str]) -> FinetuneData:
    """Questions about passages, in windows as long as `options` say."""
    require(folder, "prepare-squad", folder / "train.json")
    return FinetuneData(count_windows(folder, options), "")


def require(folder: Path, maker: str, *files: Path) -> None:
    """FileNotFoundError unless one of the files is there."""
    if not any(file.is_file() for file in files):
        name = files[-1].relative_to(folder)
        raise FileNotFoundError(f"no {name} in {folder}: make it with fairseq-electra {maker}")


def read_labels(path: Path) -> List[str]:
    """The labels of a dictionary, whose file has none of fairseq's special ones."""
    labels = [line.rsplit(" ", 1)[0] for line in read_lines(path) if line]
    return [label for label in labels if not label.startswith("madeupword")]


def count_examples(split: Path) -> int:
    """Entries of `split`.idx."""
    from fairseq_electra.data.data_files import check_data, read_index

    index = Path(f"{split}.idx")
    for path in (index, Path(f"{split}.bin")):
        require(path.parent, "prepare-task", path)
    check_data(str(split))
    number = len(read_index(index).sizes)
    if number == 0:
        raise ValueError(f"{index} has no examples; make it with fairseq-electra prepare-task")
    return number


def count_windows(folder: Path, options: Sequence[str] = ()) -> int:
    """How many windows --task electra_answers makes of the training set."""
    from fairseq_electra.tasks.electra_answers import ElectraAnswersTask, ElectraAnswersTaskConfig

    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    for field in fields(ElectraAnswersTaskConfig):
        if field.name in WINDOW_SIZES:
            option = "--" + field.name.replace("_", "-")
            parser.add_argument(option, type=int, default=field.default)
    sizes, _ = parser.parse_known_args(list(options))
    task = ElectraAnswersTask.setup_task(ElectraAnswersTaskConfig(data=str(folder), **vars(sizes)))
    logging.disable(logging.ERROR)  # training logs it again
    task.load_dataset("train")
    logging.disable(logging.NOTSET)
    return len(task.dataset("train"))
