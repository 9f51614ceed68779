"""What a run says when it goes on from a checkpoint of other options, data or another training."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils

from tiny_runs import LONGEST, launch

CHANGED = "this run goes on with other options than it had: "
OTHER_DATA = "is not what this run was trained on before"
PLACE = "some sentences are read twice"


@pytest.fixture(scope="module")
def begun(data_bin, tmp_path_factory, train_electra):
    """A save-dir whose last checkpoint is in the middle of the first epoch."""
    save_dir = tmp_path_factory.mktemp("begun")
    train_electra(data_bin, save_dir, "--max-update", 2)
    return save_dir


@pytest.fixture
def resume(begun, data_bin, tmp_path, train_electra):
    """A function that goes on in a copy of that save-dir for an update; what it printed."""

    def run(*options, data=data_bin, check=True):
        save_dir = tmp_path / "save"
        shutil.copytree(begun, save_dir, dirs_exist_ok=True)
        options = ("--max-update", 3, "--total-num-update", 9, *options)
        return train_electra(data, save_dir, *options, check=check).output

    return run


def said(output, words):
    """The lines of the log that have these words."""
    return [line for line in output.splitlines() if words in line]


def test_other_options_are_named_as_the_command_line_has_them(resume):
    (line,) = said(resume("--mask-prob", 0.2, "--lr", 1e-4, "--sentence-pairs"), CHANGED)
    assert "--lr 0.001 -> 0.0001, " in line
    assert "--mask-prob 0.15 -> 0.2, " in line
    assert "--sentence-pairs False -> True" in line
    assert PLACE in line


def test_an_option_that_moves_no_batch_keeps_the_place(resume):
    (line,) = said(resume("--disc-weight", 10), CHANGED)
    assert "--disc-weight 50.0 -> 10.0" in line
    assert PLACE not in line


def test_a_larger_batch_is_named_with_what_that_means_for_the_epoch(resume):
    (line,) = said(resume("--batch-size", 4, "--update-freq", 2), CHANGED)
    assert "--batch-size 8 -> 4" in line
    assert "batches an update (--update-freq times workers) 1 -> 2" in line
    assert PLACE in line


def test_the_same_run_is_silent(resume):
    """Also with another fast path, another log and other times to save."""
    output = resume(
        *("--total-num-update", 2, "--attention", "reference", "--checkpoint-activations"),
        *("--adam-impl", "torch", "--log-interval", 2, "--save-interval-updates", 1),
        *("--num-workers", 1, "--disable-validation"),
    )
    (line,) = said(output, CHANGED)  # these two are how this test goes on
    assert line.split(CHANGED)[1] == "--max-update 2 -> 3, --total-num-update None -> 2.0"
    assert not said(output, OTHER_DATA)


@pytest.mark.campaign
def test_as_many_batches_by_more_workers_are_the_same_run(begun, data_bin, tmp_path):
    """And the others of several workers are silent."""
    shutil.copytree(begun, tmp_path / "save")
    options = ("--max-update", 4, "--batch-size", 4, "--mask-prob", 0.2)
    commands = launch(data_bin, tmp_path / "save", options, 2)
    assert [command.wait(LONGEST) for command in commands] == [0, 0]
    (line,) = said(commands[0].output, CHANGED)
    assert "batches an update (--update-freq times workers) 1 -> 2" in line
    assert not said(commands[1].output, CHANGED)

    again = ("--max-update", 6, "--batch-size", 4, "--mask-prob", 0.2, "--update-freq", 2)
    (command,) = launch(data_bin, tmp_path / "save", again)
    assert command.wait(LONGEST) == 0
    (line,) = said(command.output, CHANGED)
    assert line.split(CHANGED)[1] == "--max-update 4 -> 6"


def test_a_fresh_start_from_its_weights_is_silent(begun, data_bin, tmp_path, train_electra):
    options = ("--finetune-from-model", begun / "checkpoint_last.pt", "--mask-prob", 0.2)
    output = train_electra(data_bin, tmp_path / "new", *options).output
    assert "loading pretrained model" in output
    assert not said(output, CHANGED)


@pytest.fixture
def other_data(data_bin, tmp_path):
    """The same lines, of which one has two words exchanged."""
    shutil.copytree(data_bin, tmp_path / "other")
    ids = np.fromfile(tmp_path / "other" / "train.bin", np.uint16)
    assert ids[0] != ids[1]
    ids[:2] = ids[1], ids[0]
    ids.tofile(tmp_path / "other" / "train.bin")
    return tmp_path / "other"


def test_other_data_is_noticed(resume, other_data):
    (line,) = said(resume(data=other_data), OTHER_DATA)
    assert f"{other_data / 'train'} {OTHER_DATA}" in line


def test_the_same_data_in_another_folder_is_silent(resume, data_bin, tmp_path):
    shutil.copytree(data_bin, tmp_path / "moved")
    assert not said(resume(data=tmp_path / "moved"), OTHER_DATA)


def test_other_uses_of_a_checkpoint_are_silent(begun, other_data, caplog):
    (_,), _, task = checkpoint_utils.load_model_ensemble_and_task(
        [str(begun / "checkpoint_last.pt")], {"data": str(other_data)}
    )
    task.load_dataset("train")
    assert OTHER_DATA not in caplog.text


def test_data_directories_are_told_apart(begun, data_bin, other_data, tmp_path, train_electra):
    """Each is compared with itself, when its epoch comes, over several starts."""
    save_dir, options = tmp_path / "save", ("--batch-size", 32, "--lr-scheduler", "fixed")
    both = f"{data_bin}:{other_data}"
    train_electra(both, save_dir, *options, "--max-epoch", 2, "--max-update", 0)
    options = (*options, "--max-update", 0)
    output = train_electra(both, save_dir, *options, "--max-epoch", 4).output
    assert not said(output, OTHER_DATA)
    same = f"{data_bin}:{data_bin}"
    output = train_electra(same, save_dir, *options, "--max-epoch", 5).output
    (line,) = said(output, OTHER_DATA)  # the second one's turn comes when the fifth epoch ends
    assert output.index("end of epoch 5") < output.index(line)


def test_workers_with_other_data_are_refused(data_bin, other_data, tmp_path):
    commands = launch([data_bin, other_data], tmp_path / "run", (), 2)
    for command in commands:
        assert command.wait(LONGEST) == 1
        last = command.output.strip().splitlines()[-1]
        assert "worker 1 on " in last and "has other training data in" in last


@pytest.mark.parametrize(
    ("options", "reason", "change"),
    [
        (["--encoder-layers", 3], "Missing key", "--encoder-layers 2 -> 3"),
        (["--arch", "electra_base", "--embedding-size", 8], "size mismatch", "--embedding-size"),
        (["--optimizer", "adam"], "Optimizer does not match", "--optimizer electra_adam -> adam"),
    ],
)
def test_what_does_not_fit_is_said_last(resume, options, reason, change):
    last = resume(*options, check=False).strip().splitlines()[-1]
    assert "ensure that the architectures match" not in last
    assert "checkpoint_last.pt does not fit this run: " in last
    assert reason in last
    assert change in last
    assert "another training needs another one" in last


def test_a_fine_tuning_in_the_folder_of_another_training_is_told_so(resume, begun):
    """--finetune-from-model counts only where the save-dir has no checkpoint."""
    options = ("--finetune-from-model", begun / "checkpoint_last.pt", "--optimizer", "adam")
    last = resume(*options, check=False).strip().splitlines()[-1]
    assert "another training needs another one" in last


def test_a_model_that_does_not_fit_is_named(begun, data_bin, tmp_path, train_electra):
    source = begun / "checkpoint_last.pt"
    options = ("--finetune-from-model", source, "--encoder-layers", 3)
    last = train_electra(data_bin, tmp_path, *options, check=False).output.strip().splitlines()[-1]
    assert f"the checkpoint {source} does not fit this run: " in last
    assert "another training" not in last


def test_another_dictionary_is_said_last(resume, data_bin, tmp_path):
    shutil.copytree(data_bin, tmp_path / "bin")
    with (tmp_path / "bin" / "dict.txt").open("a") as words:
        words.write("extra 1\n")
    last = resume(data=tmp_path / "bin", check=False).strip().splitlines()[-1]
    assert "was trained with another dictionary: it has 45 entries" in last
    assert "Options that differ: --max-update 2 -> 3" in last


def test_patience_is_counted_over_several_starts(data_bin, tmp_path, train_electra):
    """At a rate of 0 no validation is better than the first: the third one stops the run."""
    options = ("--lr", 0, "--lr-scheduler", "fixed", "--patience", 2, "--max-epoch", 9)
    options += ("--save-interval-updates", 2, "--validate-interval-updates", 2)
    output = train_electra(data_bin, tmp_path, *options, "--max-update", 4).output
    assert "early stop" not in output
    output = train_electra(data_bin, tmp_path, *options, "--max-update", 40).output
    assert "early stop since valid performance hasn't improved for last 2 runs" in output
    assert (tmp_path / "checkpoint_1_6.pt").exists()
    assert not list(tmp_path.glob("checkpoint_1_8.pt"))


def read_line(output, update):
    """What the log has of the updates up to this one, but for clocks."""
    lines = map(json.loads, re.findall(r"\| train_inner \| (\{.*\})", output))
    (line,) = (line for line in lines if line["num_updates"] == str(update))
    return {name: line[name] for name in line.keys() - {"wps", "ups", "wall", "train_wall"}}


def test_an_interval_of_the_log_goes_on_over_a_stop(data_bin, tmp_path, train_electra):
    """Between epochs of four updates: the second line is of updates 4 to 6."""
    options = ("--batch-size", 32, "--lr-scheduler", "fixed", "--max-update", 0)
    options += ("--log-interval", 3, "--max-epoch")
    whole = train_electra(data_bin, tmp_path / "whole", *options, 2).output
    (tmp_path / "parts").mkdir()
    shutil.copy(tmp_path / "whole" / "checkpoint1.pt", tmp_path / "parts" / "checkpoint_last.pt")
    resumed = train_electra(data_bin, tmp_path / "parts", *options, 2).output
    assert read_line(resumed, 6) == read_line(whole, 6)


@pytest.mark.campaign
def test_a_schedule_that_looks_at_validations_goes_on(data_bin, tmp_path, train_electra):
    """No epoch is better than the first by 90 %: the second lowers the rate, stopped or not."""
    options = ("--lr-scheduler", "reduce_lr_on_plateau", "--lr-threshold", 0.9, "--max-update", 0)
    options += ("--warmup-updates", 0, "--batch-size", 32)
    train_electra(data_bin, tmp_path / "whole", *options, "--max-epoch", 4)
    for epochs in (1, 2, 3, 4):
        train_electra(data_bin, tmp_path / "parts", *options, "--max-epoch", epochs)
    whole, parts = (
        torch.load(tmp_path / name / "checkpoint_last.pt", weights_only=True)
        for name in ("whole", "parts")
    )
    rates = [state["last_optimizer_state"]["param_groups"][0]["lr"] for state in (whole, parts)]
    assert rates[0] == rates[1] < 1e-4
    for name, tensor in whole["model"].items():
        assert torch.equal(tensor, parts["model"][name]), name
