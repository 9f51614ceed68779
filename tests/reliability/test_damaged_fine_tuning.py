"""Damaged fine-tuning data: fairseq-train says which file is damaged, or trains to the end.

`CASES=100 pytest tests/reliability/test_damaged_fine_tuning.py -s` damages that many for each kind
and prints a table.
"""

import os
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Callable, List, NamedTuple

import pytest

from commands import start
from damage import damage_file, damage_json
from fairseq_electra.text.data_bin import binarize
from squad_bin import make_squad_bin
from tagging_bin import make_tag_bin
from tiny import TINY_OPTIONS, USER_DIR, make_dictionary

CASES = int(os.environ.get("CASES", 1))
LIMIT = 120  # seconds for a training of an epoch
LINES = {"train": 24, "valid": 8}


class Data(NamedTuple):
    """Fine-tuning data of a kind, and how it is trained on."""

    make: Callable[[Path], None]
    options: List
    damaged: List[str]  # patterns of the files that may be damaged


def write_binarized(folder: Path, name: str, lines_of: Callable, words: List[str]) -> None:
    pieces = folder / f"{name}.pieces"
    pieces.mkdir()
    for split, number in LINES.items():
        (pieces / split).write_text("".join(f"{lines_of(line)}\n" for line in range(number)))
    (pieces / "dict.txt").write_text("".join(f"{word} 1\n" for word in words))
    binarize(pieces, pieces / "dict.txt", folder / name, workers=1)
    shutil.rmtree(pieces)


def write_inputs(folder: Path, number: int) -> None:
    words = make_dictionary().symbols[4:-1]
    for name in (f"input{index}" for index in range(number)):
        write_binarized(folder, name, lambda line: f"w{line % 7} w{line % 5} w{line % 3}", words)


def write_labels(folder: Path, label_of: Callable) -> None:
    """What the stock tasks read as numbers."""
    (folder / "label").mkdir()
    for split, number in LINES.items():
        lines = "".join(f"{label_of(line)}\n" for line in range(number))
        (folder / "label" / f"{split}.label").write_text(lines)


def make_classes(folder: Path) -> None:
    write_inputs(folder, 2)
    write_binarized(folder, "label", lambda line: line % 2, ["0", "1"])


def make_regression(folder: Path) -> None:
    write_inputs(folder, 2)
    write_labels(folder, lambda line: line % 5 / 4)


def make_ranking(folder: Path) -> None:
    write_inputs(folder, 3)
    write_labels(folder, lambda line: line % 2)


def stock(task: str, *options) -> List:
    return ["--task", task, "--criterion", task, "--init-token", 0, "--max-positions", 32, *options]


def ours(task: str, *options) -> List:
    return ["--task", task, "--criterion", task, "--tokens-per-sample", 32, *options]


KINDS = {
    "classes": Data(
        make_classes,
        stock("sentence_prediction", "--num-classes", 2),
        ["*/*.bin", "*/*.idx", "*/dict.txt", "label/*"],
    ),
    "regression": Data(
        make_regression,
        stock("sentence_prediction", "--num-classes", 1, "--regression-target"),
        ["*/*.bin", "*/*.idx", "*/dict.txt", "label/*", "label/*"],
    ),
    "ranking": Data(
        make_ranking,
        stock("sentence_ranking", "--num-classes", 2),
        ["*/*.bin", "*/*.idx", "*/dict.txt", "label/*", "label/*"],
    ),
    "tags": Data(
        lambda folder: make_tag_bin(folder, train=24, valid=8),
        ours("electra_tagging"),
        ["*.conll", "dict.txt", "vocab.txt", "tokenizer_info.json", "label/*"],
    ),
    "answers": Data(
        lambda folder: make_squad_bin(folder, train=24, valid=8, words=4),
        ours("electra_answers", "--max-query-length", 8, "--doc-stride", 8),
        ["train.json", "valid.json", "dict.txt", "vocab.txt", "tokenizer_info.json"],
    ),
}


def train(folder: Path, save_dir: Path, options: List):
    command = start(
        *("fairseq_cli.train", folder, "--user-dir", USER_DIR, "--cpu", *options),
        *("--arch", "electra_tiny", *TINY_OPTIONS, "--optimizer", "electra_adam", "--lr", "1e-3"),
        *("--max-epoch", 1, "--batch-size", 8, "--required-batch-size-multiple", 1),
        *("--num-workers", 0, "--no-save", "--log-format", "json", "--save-dir", save_dir),
    )
    return command.wait(LIMIT), command.output


def judge(folder: Path, damaged: Path, status: int, output: str) -> str:
    """`trained`, `clear error`, or what is bad about it."""
    if status == 0:
        return "trained"
    if status < 0:
        return f"ended by signal {-status}"
    last = output.strip().splitlines()[-1]
    # the split's two files are one to a user, as are a folder's split and its dictionary
    named = [damaged, damaged.with_suffix(""), damaged.parent]
    return (
        "clear error"
        if any(str(path) in last for path in named if path != folder)
        else f"unclear: {last}"
    )


@pytest.fixture(scope="module", params=KINDS)
def whole(request, tmp_path_factory):
    """The kind's name, and a folder of whole data."""
    folder = tmp_path_factory.mktemp("whole") / "data"
    folder.mkdir()
    KINDS[request.param].make(folder)
    return request.param, folder


@pytest.mark.campaign
def test_whole_data_trains(whole, tmp_path):
    name, folder = whole
    status, output = train(folder, tmp_path, KINDS[name].options)
    assert status == 0, output[-3000:]


def test_damaged_files_are_named(whole, tmp_path):
    name, template = whole
    outcomes, bad = Counter(), []
    folder = tmp_path / "data"
    for case in range(CASES):
        rng = random.Random(f"{name} {case}")
        shutil.copytree(template, folder)
        choices = [path for pattern in KINDS[name].damaged for path in sorted(folder.glob(pattern))]
        path = rng.choice([path for path in choices if path.is_file() and path.stat().st_size])
        is_json = path.suffix == ".json" and rng.random() < 0.7
        kind = damage_json(path, rng) if is_json else damage_file(path, rng)
        outcome = judge(folder, path, *train(folder, tmp_path / "save", KINDS[name].options))
        where = path.relative_to(folder)
        if outcome not in ("trained", "clear error"):
            bad.append(f"case {case}, {where}, {kind}: {outcome}")
        outcomes[str(where), outcome.split(":")[0]] += 1
        shutil.rmtree(folder)
    for key, number in sorted(outcomes.items()):
        print(name, *key, number, sep="\t")
    assert not bad, "\n".join(bad)
    assert not list(tmp_path.glob("save/checkpoint*"))
