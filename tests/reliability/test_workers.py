"""Workers among several: losses to the last digit, uneven shards, dropout, and workers that are lost."""

import re
import signal
import stat

import pytest
import torch

from commands import start
from fairseq_electra.workers import describe_loss, drop_dummies
from tiny_runs import LONGEST, finish, launch

UPDATES = 26  # more than one epoch
KEEP = ("--save-interval-updates", 1, "--disable-validation", "--batch-size", 4)
LOSSES = ("loss", "gen_loss", "disc_loss")


def read_losses(save_dir) -> dict:
    """The losses of each update, from its checkpoint: the log has three or four places only."""
    found = {}
    for path in save_dir.glob("checkpoint*.pt"):
        state = torch.load(path, weights_only=True)
        meters = {name: meter for _, name, _, meter in state["extra_state"]["metrics"]["train"]}
        update = state["optimizer_history"][-1]["num_updates"]
        found[update] = {name: float(meters[name]["val"]) for name in LOSSES}
    return found


def assert_same_losses(ours: dict, theirs: dict):
    assert ours.keys() == theirs.keys() == set(range(1, UPDATES + 1))
    for update, losses in theirs.items():
        assert losses == pytest.approx(ours[update], rel=1e-5, abs=1e-5), update


@pytest.mark.parametrize("freq", [1, 3])
def test_losses_are_those_of_one_process(data_bin, tmp_path, freq):
    """Also in an epoch's last update, where workers have fewer batches than others (freq 3)."""
    one, two = tmp_path / "one", tmp_path / "two"
    finish(launch(data_bin, one, (*KEEP, "--update-freq", 2 * freq)))
    finish(launch(data_bin, two, (*KEEP, "--update-freq", freq), 2))
    assert_same_losses(read_losses(one), read_losses(two))


def test_what_fills_up_an_update_is_dropped():
    assert drop_dummies([{"id": 1}, {}]) == [{"id": 1}]
    assert drop_dummies([{}, {}]) == [{}]
    assert drop_dummies([{"id": 1}, {"id": 2}]) == [{"id": 1}, {"id": 2}]
