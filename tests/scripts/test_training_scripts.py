"""The README's shell commands in a row, small: data, both models, fine-tuning, table."""

import json
import random
import shutil
import sys

import pytest

from commands import run, run_script
from tiny import ROOT

SCRIPTS = ROOT / "scripts"
SHORT = ("--max-update", 3, "--warmup-updates", 1, "--tokens-per-sample", 32, "--log-interval", 1)


def write_documents(path, number, rng):
    """Documents of four lines about animals or about tools."""
    kinds = {
        "animals": ["cat", "dog", "bird", "fish", "mouse"],
        "tools": ["saw", "axe", "nail", "drill", "file"],
    }
    labelled = []
    with path.open("w") as out:
        for _ in range(number):
            label = rng.choice(sorted(kinds))
            for _ in range(4):
                text = " ".join(rng.choice([*kinds[label], "the", "and", "a"]) for _ in range(12))
                labelled.append((label, text))
                out.write(text + "\n")
            out.write("\n")
    return labelled


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """raw text, data-bin and task-bin."""
    folder = tmp_path_factory.mktemp("scripts")
    rng = random.Random(5)
    (folder / "tsv").mkdir()
    for split, number in (("train", 80), ("valid", 10)):
        labelled = write_documents(folder / f"{split}.txt", number, rng)
        rows = "".join(f"{label}\t{text}\n" for label, text in labelled)
        (folder / "tsv" / f"{split}.tsv").write_text(rows)
    run_script(
        *("prepare_data.sh", "--vocab-size", 80, "--valid", folder / "valid.txt"),
        *(folder / "bin", folder / "train.txt"),
    )
    run_script("prepare_task.sh", folder / "task-bin", folder / "bin", folder / "tsv")
    return folder


@pytest.mark.campaign
def test_pretrain_finetune_and_compare(folder):
    tiny = {"SIZE": "tiny"}
    run_script("pretrain.sh", folder / "bin", folder / "electra", *SHORT, **tiny)
    done = run_script(
        *("pretrain_roberta.sh", folder / "bin", folder / "roberta"),
        *("--log-interval", 1, "--warmup-updates", 1),
        **tiny,
        ELECTRA_UPDATES="3",
    )
    assert "roberta: 3 updates cost as much as ELECTRA's 3" in done.output
    done = run_script(
        *("pretrain_mlm.sh", folder / "bin", folder / "mlm", "--weight-init", "local"),
        *("--log-interval", 1, "--warmup-updates", 1, "--encoder-layers", 2),
        **tiny,
        ELECTRA_UPDATES="3",
        MLM_UPDATES="1",
        ELECTRA_OPTIONS="--generator-size 1",
    )
    cost = count_cost("--data", folder / "bin", "--encoder-layers", 2, "--generator-size", 1)
    assert f"electra_mlm: {cost} updates cost as much as ELECTRA's 3" in done.output
    assert cost > 5  # a generator as large as the encoder
    for name in ("electra", "roberta", "mlm"):
        model = "roberta" if name == "roberta" else "electra"
        run_script(
            *("finetune.sh", folder / "task-bin", folder / f"tuned-{name}"),
            *(folder / name / "checkpoint_last.pt", "--no-save"),
            *(("--encoder-layers", 2) if name == "mlm" else ()),
            **tiny,
            MODEL=model,
            EPOCHS="1",
        )
    names = [
        f"{name}={folder / name}+{folder / ('tuned-' + name)}"
        for name in ("electra", "roberta", "mlm")
    ]
    run(*(sys.executable, SCRIPTS / "compare_runs.py", "--out", folder / "out"), *names)
    table = json.loads((folder / "out" / "table.json").read_text())
    rows = {row["model"]: row for row in table["rows"]}
    assert list(rows) == ["electra", "roberta", "mlm"]
    assert all(row["finetuned"][0]["task"] == "task-bin" for row in rows.values())
    assert rows["mlm"]["updates"] == cost and rows["mlm"]["mlm_loss"] > 0
    assert rows["mlm"]["encoder_parameters"] < rows["electra"]["encoder_parameters"]
    assert (folder / "out" / "curves.png").read_bytes()[:4] == b"\x89PNG"


def count_cost(*options):
    """Updates of electra_mlm for 3 of ELECTRA with 1 in the first stage, by flops.py."""
    command = [sys.executable, SCRIPTS / "flops.py", "--match-mlm", "--arch", "electra_tiny"]
    command += ["--tokens-per-sample", 64, "--mask-prob", 0.3, "--updates", 3, "--mlm-updates", 1]
    return int(run(*command, *options).output)


@pytest.mark.campaign
def test_fine_tuning_learns_from_scratch(folder):
    done = run_script(
        *("finetune.sh", folder / "task-bin", folder / "scratch", "none", "--no-save"),
        SIZE="tiny",
        EPOCHS="4",
    )
    accuracies = [
        float(line.split("accuracy ")[1].split(" ")[0])
        for line in done.output.splitlines()
        if "| valid |" in line
    ]
    assert max(accuracies) > 80


@pytest.mark.parametrize(
    "script",
    [
        *("pretrain.sh", "finetune.sh"),
        pytest.param("pretrain_roberta.sh", marks=pytest.mark.campaign),
        pytest.param("pretrain_mlm.sh", marks=pytest.mark.campaign),
    ],
)
def test_a_script_without_data_says_what_it_needs(script, tmp_path):
    done = run_script(script, check=False)
    assert done.returncode == 2
    assert "usage: SIZE=small" in done.output
    done = run_script(script, tmp_path / "none", tmp_path / "save", "none", check=False)
    assert done.returncode == 1
    assert "make it with fairseq-electra prepare-" in done.output
    assert not (tmp_path / "save").exists()


def test_sizes_and_batches_that_do_not_exist_are_named(folder, tmp_path):
    arguments = ("pretrain.sh", folder / "bin", tmp_path / "save")
    done = run_script(*arguments, check=False, SIZE="huge")
    assert "argument SIZE: invalid choice: 'huge' (choose from" in done.output
    assert not (tmp_path / "save").exists()


def test_batches_that_are_no_number_are_named(folder, tmp_path):
    done = run_script(
        *("pretrain.sh", folder / "bin", tmp_path / "save"),
        check=False,
        SIZE="tiny",
        MICRO_BATCH="-4",
    )
    assert done.returncode == 2
    assert "argument --micro-batch: -4: give a whole number above 0" in done.output
    arguments = ("finetune.sh", folder / "task-bin", tmp_path / "save", "none")
    done = run_script(*arguments, check=False, EPOCHS="1.5")
    assert done.returncode == 2
    assert "argument --epochs: 1.5: give a whole number above 0" in done.output
    done = run_script(*arguments, check=False, BATCH="1.5")
    assert done.returncode == 1
    assert "--batch-size must be a whole number, 1 or more, not '1.5'\n" in done.output
    assert not (tmp_path / "save").exists()


@pytest.mark.parametrize(("part", "damage"), [("idx", "cut"), ("bin", "missing")])
def test_fine_tuning_on_damaged_texts_names_the_file(folder, tmp_path, part, damage):
    """It has to count them before fairseq-train begins."""
    shutil.copytree(folder / "task-bin", tmp_path / "task-bin")
    path = tmp_path / "task-bin" / "input0" / f"train.{part}"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:100])
    else:
        path.unlink()
    done = run_script(
        "finetune.sh", tmp_path / "task-bin", tmp_path / "save", "none", check=False, SIZE="tiny"
    )
    assert done.returncode != 0
    last = done.output.splitlines()[-1]
    said = f"{path} " if damage == "cut" else f"no {path.name} in {path.parent}: make it with"
    assert last.startswith(f"fairseq-electra recipe: {said}"), last
    assert not (tmp_path / "save").exists()


def test_fine_tuning_without_its_checkpoint_is_refused(folder, tmp_path):
    done = run_script(
        *("finetune.sh", folder / "task-bin", tmp_path / "save", tmp_path / "gone.pt"), check=False
    )
    assert "no checkpoint" in done.output
    assert not (tmp_path / "save").exists()
