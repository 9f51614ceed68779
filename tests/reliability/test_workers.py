"""Workers among several: losses to 1e-5, uneven shards, dropout, and workers that are lost."""

import contextlib
import json
import os
import re
import shutil
import signal
import stat
import time
from types import SimpleNamespace

import pytest
import torch
from fairseq.dataclass.configs import FairseqConfig
from fairseq.trainer import Trainer
from omegaconf import OmegaConf

from commands import start, wait_for
from fairseq_electra.compat.distributed import workers
from fairseq_electra.compat.distributed.workers import describe_loss, drop_dummies
from fairseq_electra.modules.dropout import draw_mask
from tiny_runs import LONGEST, finish, free_port, launch, list_children, run_options

UPDATES = 26  # more than one epoch
KEEP = ("--save-interval-updates", 1, "--disable-validation")
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


@pytest.mark.campaign
@pytest.mark.parametrize(("batch", "freq"), [(4, 1), (6, 3)])
def test_losses_are_those_of_one_process(data_bin, tmp_path, batch, freq):
    """6 x 3: an epoch has 21 batches, and its last update two on a worker, one on the other."""
    one, two = tmp_path / "one", tmp_path / "two"
    options = (*KEEP, "--batch-size", batch, "--update-freq")
    finish(launch(data_bin, one, (*options, 2 * freq)))
    finish(launch(data_bin, two, (*options, freq), 2))
    assert_same_losses(read_losses(one), read_losses(two))


def test_what_fills_up_an_update_is_dropped():
    assert drop_dummies([{"id": 1}, {}]) == [{"id": 1}]
    assert drop_dummies([{}, {}]) == [{}]
    assert drop_dummies([{"id": 1}, {"id": 2}]) == [{"id": 1}, {"id": 2}]


def test_workers_drop_other_units():
    """The trainer's seeds, without a run: fairseq gives all workers the same."""
    drawn = {}
    for rank in (0, 1, 2):
        trainer = SimpleNamespace(
            cfg=SimpleNamespace(common=SimpleNamespace(seed=1)),
            get_num_updates=lambda: 7,
            data_parallel_rank=rank,
        )
        Trainer._set_seed(trainer)
        drawn[rank] = draw_mask(torch.ones(1000), 0.5)
    torch.manual_seed(1 + 7)
    assert torch.equal(drawn[0], draw_mask(torch.ones(1000), 0.5))  # as without the plugin
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert 350 < int((drawn[one] == drawn[other]).sum()) < 650


VALID_OPTIONS = ("--max-update", 1, "--lr", 0, "--batch-size", 6, "--no-save")


def test_a_validation_counts_every_sentence_once(data_bin, tmp_path):
    """Batches of 6 do not divide among two workers: one has a stand-in, which must not count."""
    found = []
    for number in (1, 2):
        output = finish(launch(data_bin, tmp_path, VALID_OPTIONS, number))
        (line,) = re.findall(r"\| valid \| (\{.*\})", output)
        found.append({key: float(value) for key, value in json.loads(line).items()})
    for name in ("loss", "gen_loss", "disc_loss", "masked_acc", "disc_acc", "disc_auc"):
        assert found[0][f"valid_{name}"] == pytest.approx(found[1][f"valid_{name}"], abs=1e-5), name


def start_two(data, save_dir, *options) -> list:
    """Two workers in the middle of a long run."""
    endless = ("--batch-size", 4, "--log-interval", 1, "--max-update", 100_000, *options)
    commands = launch(data, save_dir, endless, 2)
    wait_for(lambda: '"num_updates": "3"' in commands[0].output or None, LONGEST)
    return commands


def test_a_lost_worker_is_explained_and_nothing_is_saved(data_bin, tmp_path):
    commands = start_two(data_bin, tmp_path)
    commands[1].send(signal.SIGKILL)
    assert commands[0].wait(LONGEST) == 1
    last = commands[0].output.strip().splitlines()[-1]
    assert "worker 0 of 2 stops: another worker died" in last
    assert f"resumes from the last checkpoint in --save-dir {tmp_path}" in last
    assert not list(tmp_path.glob("crash*"))


@pytest.mark.campaign
def test_a_worker_that_stands_still_ends_the_other(data_bin, tmp_path):
    """fairseq's SIGINT would reach Python when torch has stopped waiting, after 30 minutes."""
    commands = start_two(data_bin, tmp_path, "--heartbeat-timeout", 10)
    commands[1].send(signal.SIGSTOP)
    try:
        assert commands[0].wait(LONGEST) == -signal.SIGTERM
        assert "not making progress in 10 seconds" in commands[0].output
    finally:
        commands[1].send(signal.SIGKILL)


def test_a_damaged_checkpoint_is_refused_by_all_workers(data_bin, tmp_path):
    """The first looks at it; the others would otherwise wait for it."""
    finish(launch(data_bin, tmp_path, ("--max-update", 2, "--batch-size", 4), 2))
    last = tmp_path / "checkpoint_last.pt"
    last.write_bytes(last.read_bytes()[:5000])
    for command in launch(data_bin, tmp_path, ("--max-update", 4, "--batch-size", 4), 2):
        assert command.wait(LONGEST) == 1
        assert f"{last} is damaged" in command.output.strip().splitlines()[-1]


def test_a_worker_that_fails_before_it_trains_ends_the_other(data_bin, tmp_path):
    """It alone has a damaged file, as on a machine with a copy of its own."""
    damaged = tmp_path / "damaged"
    shutil.copytree(data_bin, damaged)
    (damaged / "valid.bin").write_bytes((damaged / "valid.bin").read_bytes()[:-2])
    first, second = launch([data_bin, damaged], tmp_path / "run", (), 2)
    assert second.wait(LONGEST) == 1 and "valid.bin has" in second.output.splitlines()[-1]
    assert first.wait(150) == 1  # seconds, of which it takes one; torch would wait for 1800
    assert "worker 0 of 2 stops: another worker died" in first.output.strip().splitlines()[-1]


def test_a_worker_that_waits_says_so(monkeypatch, caplog):
    """The other one ended before it came, as by a wrong option."""
    monkeypatch.setattr(workers, "LONG_WAIT", 0.1)
    cfg = OmegaConf.structured(FairseqConfig)
    cfg.distributed_training.distributed_world_size = 2
    cfg.distributed_training.distributed_init_method = "tcp://h:1"
    with workers.announce_waiting(cfg):
        pass
    time.sleep(0.3)
    assert not caplog.records  # they met
    with workers.announce_waiting(cfg):
        wait_for(lambda: caplog.records or None, 60)
    assert "worker 0 of 2 has waited 0 s for the others at tcp://h:1" in caplog.text


def test_a_killed_loader_process_is_explained(data_bin, tmp_path):
    options = ("--num-workers", 2, "--max-update", 100_000, "--log-interval", 1)
    (command,) = launch(data_bin, tmp_path, options)
    wait_for(lambda: '"num_updates": "3"' in command.output or None, LONGEST)
    while command.poll() is None:  # each epoch has two of its own
        for child in list_children(command.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        time.sleep(0.2)
    last = command.output.strip().splitlines()[-1]
    assert "a process that loads data (--num-workers 2) ended" in last
    assert f"it resumes from the last checkpoint in --save-dir {tmp_path}" in last


def test_other_errors_are_not_explained_away():
    cfg = SimpleNamespace(
        distributed_training=SimpleNamespace(distributed_rank=0, distributed_world_size=2),
        checkpoint=SimpleNamespace(save_dir="save"),
    )
    assert describe_loss(RuntimeError("DataLoader worker (pid 7) exited unexpectedly"), cfg) is None
    assert "worker 0 of 2" in describe_loss(RuntimeError("[gloo/pair.cc] Timed out"), cfg)
    cfg.distributed_training.distributed_world_size = 1
    assert describe_loss(RuntimeError("[gloo/pair.cc] Timed out"), cfg) is None


SCONTROL = """#!/bin/sh
[ "$1 $2 $3" = "show hostnames node[1-2]" ] && echo 127.0.0.1 && echo 127.0.0.2
"""


@pytest.mark.campaign
@pytest.mark.parametrize("nodes", [1, 2])
def test_tasks_of_srun_train_together(data_bin, tmp_path, nodes):
    """As Slurm would start two tasks, on one node and on two; scontrol is a stand-in."""
    (tmp_path / "scontrol").write_text(SCONTROL)
    (tmp_path / "scontrol").chmod(stat.S_IRWXU)
    slurm = {
        "SLURM_STEP_NODELIST": "node[1-2]",
        "SLURM_STEP_NUM_TASKS": 2,
        "SLURM_NTASKS": 2,
        "SLURM_NNODES": nodes,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
    }
    command = run_options(data_bin, tmp_path / "run", "--max-update", 4, "--batch-size", 4)
    command += ("--distributed-world-size", 2, "--distributed-port", free_port())
    finish([start(*command, **slurm, SLURM_PROCID=rank, SLURM_LOCALID=rank) for rank in range(2)])
    finish(launch(data_bin, tmp_path / "two", ("--max-update", 4, "--batch-size", 4), 2))
    ours, theirs = (
        torch.load(tmp_path / name / "checkpoint_last.pt", weights_only=True)["model"]
        for name in ("run", "two")
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    "environ",
    [
        {"MASTER_ADDR": "localhost", "MASTER_PORT": "1", "WORLD_SIZE": "2", "RANK": "0"},
        {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"},
    ],
)
def test_a_trainer_of_a_copy_is_refused(monkeypatch, environ):
    """As fairseq-hydra-train comes to it, which imports the plugin after looking for workers."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    distributed = SimpleNamespace(distributed_world_size=1)
    with pytest.raises(ValueError, match="has started 2"):
        Trainer(SimpleNamespace(distributed_training=distributed), None, None, None)
