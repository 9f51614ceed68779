"""The commands of docs/answers.md in a row, small: prepare, fine-tune, resume, predict."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from squad_bin import list_qas, make_squad, make_tokenizer

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def run_script(*command, check=True, **environment):
    """Run a script of the project as a user does; what it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment},
        check=False,
    )
    assert not check or done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def finetune(*arguments, check=True, **environment):
    return run_script(
        SCRIPTS / "finetune_squad.sh", *arguments, check=check, SIZE="tiny", **environment
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data-bin's tokenizer, two files of 40 and 5 questions, and the folder made of them."""
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "data").mkdir()
    make_tokenizer().save(folder / "data")
    for seed, (name, number) in enumerate((("train", 40), ("dev", 5))):
        (folder / f"{name}.json").write_text(json.dumps(make_squad(number, seed, words=5)))
    files = (folder / "train.json", folder / "dev.json")
    script = SCRIPTS / "prepare_squad.sh"
    printed = run_script(script, folder / "squad", folder / "data", *files)
    assert "train.json: SQuAD 1.1, 40 questions, 40 windows\n" in printed
    return folder


@pytest.mark.slow
def test_finetune_resume_and_predict(folder):
    """An epoch of two updates; two epochs of the same folder go on from there."""
    arguments = (folder / "squad", folder / "save", "none", "--tokens-per-sample", 70)
    assert "num_updates 2 " in finetune(*arguments, EPOCHS="1")
    printed = finetune(*arguments)
    assert re.search(r"Loaded checkpoint .*save/checkpoint_last.pt \(epoch 2 @ 2 updates", printed)
    assert "num_updates 4 " in printed
    out = folder / "out.json"
    command = (sys.executable, SCRIPTS / "predict_answers.py", folder / "save/checkpoint_last.pt")
    printed = run_script(*command, folder / "dev.json", "--out", out)
    assert re.search(r"^5 questions, 5 windows\nexact_match +[\d.]+\nf1 +[\d.]+\n$", printed)
    ids = [qa["id"] for qa in list_qas(json.loads((folder / "dev.json").read_text()))]
    assert list(json.loads(out.read_text())) == ids


@pytest.mark.slow
def test_what_is_missing_is_named(folder, tmp_path):
    assert "usage: SIZE=small" in finetune(check=False)
    printed = finetune(tmp_path, tmp_path / "save", "none", check=False)
    assert "make it with scripts/prepare_squad.sh" in printed
    printed = finetune(folder / "squad", tmp_path / "save", tmp_path / "gone.pt", check=False)
    assert "no checkpoint" in printed
    arguments = (folder / "squad", tmp_path / "save", "none", "--doc-stride", 0)
    printed = finetune(*arguments, check=False)
    assert printed == "count_windows.py: --doc-stride must be at least 1, not 0\n"
    assert not (tmp_path / "save").exists()
