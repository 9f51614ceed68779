"""The commands of docs/answers.md in a row, small: prepare, fine-tune, resume, predict."""

import json
import re
import sys

import pytest

from commands import run, run_script
from squad_bin import list_qas, make_squad, make_tokenizer
from tiny import ROOT


def finetune(*arguments, check=True, **environment):
    """What finetune_squad.sh printed."""
    script = "finetune_squad.sh"
    return run_script(script, *arguments, check=check, SIZE="tiny", **environment).output


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data-bin's tokenizer, two files of 40 and 5 questions, and the folder made of them."""
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "data").mkdir()
    make_tokenizer().save(folder / "data")
    for seed, (name, number) in enumerate((("train", 40), ("dev", 5))):
        (folder / f"{name}.json").write_text(json.dumps(make_squad(number, seed, words=5)))
    files = (folder / "train.json", folder / "dev.json")
    printed = run_script("prepare_squad.sh", folder / "squad", folder / "data", *files).output
    assert "train.json: SQuAD 1.1, 40 questions, 40 windows\n" in printed
    return folder


def test_finetune_resume_and_predict(folder):
    """An epoch of two updates; two epochs of the same folder go on from there."""
    arguments = (folder / "squad", folder / "save", "none", "--tokens-per-sample", 70)
    assert "num_updates 2 " in finetune(*arguments, EPOCHS="1")
    printed = finetune(*arguments)
    assert re.search(r"Loaded checkpoint .*save/checkpoint_last.pt \(epoch 2 @ 2 updates", printed)
    assert "num_updates 4 " in printed
    out = folder / "out.json"
    script = ROOT / "scripts" / "predict_answers.py"
    checkpoint = folder / "save" / "checkpoint_last.pt"
    done = run(sys.executable, script, checkpoint, folder / "dev.json", "--out", out)
    result = r"^5 questions, 5 windows\nexact_match +[\d.]+\nf1 +[\d.]+\n$"
    assert re.search(result, done.output)
    ids = [qa["id"] for qa in list_qas(json.loads((folder / "dev.json").read_text()))]
    assert list(json.loads(out.read_text())) == ids


def test_what_is_missing_is_named(folder, tmp_path):
    assert "usage: SIZE=small" in finetune(check=False)
    printed = finetune(tmp_path, tmp_path / "save", "none", check=False)
    assert "make it with fairseq-electra prepare-squad" in printed
    printed = finetune(folder / "squad", tmp_path / "save", tmp_path / "gone.pt", check=False)
    assert "no checkpoint" in printed
    arguments = (folder / "squad", tmp_path / "save", "none", "--doc-stride", 0)
    printed = finetune(*arguments, check=False)
    assert printed == "fairseq-electra recipe: --doc-stride must be at least 1, not 0\n"
    assert not (tmp_path / "save").exists()
