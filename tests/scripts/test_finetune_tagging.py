"""The commands of docs/tagging.md in a row, small: prepare, fine-tune, resume, predict."""

import re
import shutil
import sys

import pytest

from commands import run, run_script
from fairseq_electra.data.conll import format_conll, read_conll
from tagging_bin import make_sentences, make_tokenizer
from tiny import ROOT


def finetune(*arguments, check=True, **environment):
    """What finetune_tagging.sh printed."""
    script = "finetune_tagging.sh"
    return run_script(script, *arguments, check=check, SIZE="tiny", **environment).output


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data-bin's tokenizer, CoNLL files, and the folder made of them."""
    folder = tmp_path_factory.mktemp("scripts")
    for name in ("data", "conll"):
        (folder / name).mkdir()
    make_tokenizer().save(folder / "data")
    (folder / "conll" / "train.txt").write_text(format_conll(make_sentences(70, seed=1)))
    folders = (folder / "tags", folder / "data", folder / "conll")
    done = run_script("prepare_tagging.sh", *folders)
    assert "train 63 (train.txt), valid 7 (every 10th of train.txt) sentences" in done.output
    assert "; 5 tags" in done.output
    return folder


@pytest.mark.parametrize("model", ["electra", pytest.param("roberta", marks=pytest.mark.campaign)])
def test_finetune_resume_and_predict(folder, tmp_path, model):
    """Two epochs of two updates; four epochs of the same folder go on from there."""
    arguments = (folder / "tags", tmp_path / "save", "none", "--max-positions", 64)
    options = (*arguments, "--tokens-per-sample", 64, "--encoder-layers", 2)
    printed = finetune(*options, MODEL=model, EPOCHS="2")
    assert "num_updates 4" in printed
    assert "best_f1" in printed
    printed = finetune(*options, MODEL=model, EPOCHS="4")
    assert re.search(r"Loaded checkpoint .*save/checkpoint_last.pt \(epoch 3 @ 4 updates", printed)
    assert "num_updates 8" in printed
    command = (
        sys.executable,
        ROOT / "scripts" / "predict_tags.py",
        tmp_path / "save" / "checkpoint_best.pt",
    )
    out = tmp_path / "out.txt"
    printed = run(*command, folder / "conll" / "train.txt", "--out", out).output
    assert "micro avg" in printed
    given = read_conll(folder / "conll" / "train.txt")
    assert [each.words for each in read_conll(out)] == [each.words for each in given]


def test_arguments_that_are_missing_are_named(folder, tmp_path):
    assert "usage: SIZE=small" in finetune(check=False)
    printed = finetune(tmp_path, tmp_path / "save", "none", check=False)
    assert "make it with fairseq-electra prepare-tagging" in printed
    printed = finetune(folder / "tags", tmp_path / "save", tmp_path / "gone.pt", check=False)
    assert "no checkpoint" in printed
    assert not (tmp_path / "save").exists()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MODEL", "bert", "argument --model: invalid choice: 'bert'"),
        ("BATCH", "0", "--batch-size must be a whole number, 1 or more, not '0'\n"),
        ("EPOCHS", "1.5", "argument --epochs: 1.5: give a whole number above 0\n"),
    ],
)
def test_settings_that_do_not_exist_are_named(folder, tmp_path, name, value, message):
    arguments = (folder / "tags", tmp_path / "save", "none")
    assert message in finetune(*arguments, check=False, **{name: value})
    assert not (tmp_path / "save").exists()


def test_tags_that_mark_no_entities_have_an_accuracy(folder, tmp_path):
    """The script's rule for the best checkpoint is that of criterions/entity_counts.py."""
    tags = shutil.copytree(folder / "tags", tmp_path / "tags")
    for path in (tags / "train.conll", tags / "valid.conll", tags / "label" / "dict.txt"):
        path.write_text(path.read_text().replace("B-A", "NN"))
    printed = finetune(tags, tmp_path / "save", "none", "--no-save", EPOCHS="1")
    (valid,) = re.findall(r"\| valid \| .*", printed)
    assert "| accuracy " in valid
    assert "f1" not in valid
