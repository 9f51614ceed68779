"""Data-bins damaged at random: fairseq-train says which file is damaged, or trains on whole lines.

`CASES=500 pytest tests/reliability/test_damaged_data.py -s` trains on that many and prints a table;
`LOADS=20000` of them are only read.
"""

import os
import random
import re
import shutil
from collections import Counter

import numpy as np
import pytest
from fairseq.data import Dictionary, data_utils

from commands import start
from damage import damage_file
from fairseq_electra.data.data_files import check_data
from tiny import TINY_OPTIONS, USER_DIR

CASES = int(os.environ.get("CASES", 3))
LOADS = int(os.environ.get("LOADS", 300))
LIMIT = 120  # seconds for a training of one update
FILES = ("train.bin", "train.idx", "valid.bin", "valid.idx", "dict.txt")
TASKS = {
    "electra": ("--task", "electra", "--criterion", "electra", "--arch", "electra_tiny"),
    "pairs": (
        *("--task", "electra", "--criterion", "electra", "--arch", "electra_tiny"),
        "--sentence-pairs",
    ),
}


def damage(folder, rng: random.Random, names=FILES):
    """Damage one file of a data-bin; its name and how."""
    name = rng.choice(names)
    return name, damage_file(folder / name, rng)


def train(folder, save_dir, task):
    command = start(
        *("fairseq_cli.train", folder, "--user-dir", USER_DIR, "--cpu", *TASKS[task]),
        *(*TINY_OPTIONS, "--optimizer", "electra_adam", "--lr", "1e-3", "--max-epoch", 1),
        *("--tokens-per-sample", 32, "--batch-size", 64, "--num-workers", 0, "--no-save"),
        *("--log-format", "json", "--save-dir", save_dir),
    )
    return command.wait(LIMIT), command.output


def judge(folder, name: str, status: int, output: str) -> str:
    """`trained`, `clear error`, or what is bad about it."""
    if status == 0:
        return "trained"
    last = output.strip().splitlines()[-1]
    if status < 0:
        return f"ended by signal {-status}"
    clear = re.match(r"(ValueError|FileNotFoundError|Exception): ", last)
    return "clear error" if clear and str(folder / name) in last else f"unclear: {last}"


def test_damaged_files_are_named(data_bin, tmp_path):
    """What trains has the lengths that the index says and ids that the dictionary has."""
    outcomes = Counter()
    for case in range(CASES):
        rng = random.Random(case)
        folder = tmp_path / "data"
        shutil.copytree(data_bin, folder)
        name, kind = damage(folder, rng)
        task = rng.choice(list(TASKS))
        status, output = train(folder, tmp_path / "save", task)
        outcome = judge(folder, name, status, output)
        assert outcome in ("trained", "clear error"), f"case {case}, {name}, {kind}: {outcome}"
        if outcome == "trained" and name.endswith(".bin"):
            check_same_size(data_bin / name, folder / name)
        outcomes[name, kind, outcome] += 1
        shutil.rmtree(folder)
    for key, number in sorted(outcomes.items()):
        print(*key, number, sep="\t")
    assert any(outcome == "clear error" for _, _, outcome in outcomes)


def check_same_size(whole, damaged):
    assert whole.stat().st_size == damaged.stat().st_size


def read_split(folder):
    """The lines of `valid` as fairseq reads them, or the error."""
    dictionary = Dictionary.load(str(folder / "dict.txt"))
    lines = data_utils.load_indexed_dataset(str(folder / "valid"), dictionary)
    return [line.tolist() for line in lines]


def test_damaged_files_are_read_as_lines_of_words_or_not_at_all(data_bin, tmp_path):
    """Words may be others where ids were flipped: nothing but a checksum could tell."""
    whole = read_split(data_bin)
    outcomes = Counter()
    for case in range(LOADS):
        rng = random.Random(case)
        for name in FILES[2:]:
            shutil.copyfile(data_bin / name, tmp_path / name)
        name, kind = damage(tmp_path, rng, FILES[2:])
        try:
            lines = read_split(tmp_path)
        except Exception as error:
            assert str(tmp_path) in str(error), f"case {case}, {name}, {kind}: {error!r}"
            outcomes[name, kind, "clear error"] += 1
            continue
        assert name == "dict.txt" or list(map(len, lines)) == list(map(len, whole)), case
        outcomes[name, kind, "the same" if lines == whole else "other words"] += 1
    for key, number in sorted(outcomes.items()):
        print(*key, number, sep="\t")
    assert len({outcome for _, _, outcome in outcomes}) == 3 or LOADS < 100


@pytest.mark.parametrize("split", ["train", "valid"])
def test_a_whole_data_bin_passes(data_bin, split):
    check_data(str(data_bin / split), Dictionary.load(str(data_bin / "dict.txt")))


@pytest.fixture
def copy(data_bin, tmp_path):
    return shutil.copytree(data_bin, tmp_path / "copy")


def test_every_byte_of_the_index_is_checked(copy):
    """One flipped bit anywhere in it is noticed."""
    path = copy / "valid.idx"
    content = path.read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=re.escape(str(copy / "valid"))):
            check_data(str(copy / "valid"))


def test_an_index_of_every_shorter_length_is_refused(copy):
    path = copy / "valid.idx"
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="damaged"):
            check_data(str(copy / "valid"))


def test_an_id_beyond_the_dictionary_is_named_with_its_entry(copy):
    """Also before fairseq's own tasks read it: the plugin checks what fairseq loads."""
    dictionary = Dictionary.load(str(copy / "dict.txt"))
    lines = data_utils.load_indexed_dataset(str(copy / "valid"), dictionary)
    sizes = lines.sizes  # gone with `lines`, which fairseq unmaps at its end
    ids = np.fromfile(copy / "valid.bin", np.uint16)
    ids[sizes[:7].sum()] = len(dictionary)  # the first of the eighth line
    ids.tofile(copy / "valid.bin")
    with pytest.raises(ValueError, match=r"valid\.bin is damaged .* entry 8 has the id 44"):
        data_utils.load_indexed_dataset(str(copy / "valid"), dictionary)


@pytest.mark.parametrize(
    "line, reason",
    [("w1 1", "Duplicate word"), ("w99", "Incorrect dictionary format"), ("w99 x", "Incorrect")],
)
def test_errors_in_a_dictionary_name_the_file(copy, line, reason):
    with (copy / "dict.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=f"{re.escape(str(copy))}/dict.txt .*{reason}"):
        Dictionary.load(str(copy / "dict.txt"))


def test_a_missing_index_is_named(copy, tmp_path):
    (copy / "train.idx").unlink()
    status, output = train(copy, tmp_path / "save", "pairs")
    assert status == 1
    assert output.strip().splitlines()[-1].startswith(f"FileNotFoundError: no train.idx in {copy}")
