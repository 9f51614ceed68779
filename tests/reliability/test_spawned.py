"""Workers that fairseq spawns itself, one a GPU, as by default; here on the CPU, over gloo."""

import os
import pickle
import signal
import subprocess
import sys

import pytest
import torch
from fairseq.dataclass.configs import FairseqConfig
from fairseq.distributed import utils as distributed_utils
from fairseq_cli import train
from omegaconf import OmegaConf

from commands import Command, command_environment, start, wait_for
from fairseq_electra.compat.distributed.workers import LostError, describe_exit, explained
from fairseq_electra.process.state import process_state
from tiny import ROOT
from tiny_runs import LONGEST, finish, free_port, launch, list_children, run_options

# fairseq spawns as many as there are GPUs
TWO_GPUS = """
import torch
torch.cuda.device_count = lambda: 2

from fairseq_cli.train import cli_main

if __name__ == "__main__":
    cli_main()
"""
SPAWNED = ("--distributed-world-size", 2, "--distributed-backend", "gloo")
SPAWNED += ("--ddp-backend", "legacy_ddp", "--batch-size", 4)


@pytest.fixture
def spawn(data_bin, tmp_path):
    """A function that starts one command, which spawns two workers."""
    script = tmp_path / "train.py"
    script.write_text(TWO_GPUS)

    def spawn(*options) -> Command:
        _, *arguments = run_options(data_bin, tmp_path / "run", *SPAWNED, *options)
        address = f"tcp://127.0.0.1:{free_port()}"
        argv = [script, *arguments, "--distributed-init-method", address]
        return Command([str(word) for word in argv], command_environment())

    return spawn


def list_workers(command: Command) -> list:
    """The processes of the workers; torch has another one that watches over shared memory."""
    return [pid for pid in list_children(command.pid) if "spawn_main" in read_command(pid)]


def read_command(pid: int) -> str:
    with open(f"/proc/{pid}/cmdline") as file:  # noqa: PTH123
        return file.read()


@pytest.mark.campaign
def test_a_spawned_worker_that_is_killed_is_explained(spawn, tmp_path):
    command = spawn("--max-update", 100_000, "--log-interval", 1, "--no-save")
    wait_for(lambda: '"num_updates": "3"' in command.output or None, LONGEST)
    os.kill(list_workers(command)[1], signal.SIGKILL)
    assert command.wait(LONGEST) == 1
    last = command.output.strip().splitlines()[-1]
    explained = (
        "the worker on GPU 1 of this machine was ended by SIGKILL",  # seen by what spawned it
        "worker 0 of 2 stops: another worker died",  # or by the other worker, if that is sooner
    )
    assert any(words in last for words in explained), command.output[-3000:]
    assert f"resumes from the last checkpoint in --save-dir {tmp_path / 'run'}" in last


UNPICKLE = """
import pickle, sys
from fairseq.distributed import utils
before = utils.distributed_init
pickle.loads(bytes.fromhex(sys.argv[1]))
print("plugin:", utils.distributed_init is not before)
from fairseq_electra.process.state import ProcessState, process_state
print("fresh:", process_state == ProcessState())
"""


def test_a_spawned_worker_has_the_plugin_before_it_meets_the_others(monkeypatch):
    """As it gets fairseq's main function, not as it runs it; and nothing that its parent knows."""
    process_state.warned.add("of something")
    passed = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.multiprocessing, "spawn", lambda args, **_: passed.append(args[0]))
    cfg = OmegaConf.structured(FairseqConfig)
    cfg.distributed_training.distributed_init_method = "tcp://h:1"
    distributed_utils.call_main(cfg, train.main)
    command = [sys.executable, "-c", UNPICKLE, pickle.dumps(passed[0]).hex()]
    output = subprocess.check_output(command, text=True, cwd=ROOT)
    assert output.splitlines()[-2:] == ["plugin: True", "fresh: True"]


@pytest.mark.campaign
def test_spawned_workers_train_as_others(spawn, data_bin, tmp_path):
    finish([spawn("--max-update", 4)])
    finish(launch(data_bin, tmp_path / "two", ("--max-update", 4, "--batch-size", 4), 2))
    ours, theirs = (
        torch.load(tmp_path / name / "checkpoint_last.pt", weights_only=True)["model"]
        for name in ("run", "two")
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_without_a_gpu_none_would_be_spawned(data_bin, tmp_path):
    """fairseq alone ends well, having trained nothing."""
    address = f"tcp://127.0.0.1:{free_port()}"
    options = (*SPAWNED, "--distributed-init-method", address)
    command = start(*run_options(data_bin, tmp_path / "run", *options))
    assert command.wait(LONGEST) == 1
    assert "--distributed-no-spawn --distributed-rank RANK" in command.output.splitlines()[-1]


def test_what_a_spawned_process_ended_by_is_named():
    cfg = OmegaConf.create({"checkpoint": {"save_dir": "save"}})
    error = torch.multiprocessing.ProcessExitedException("", 1, 7, exit_code=3)
    assert "the worker on GPU 1 of this machine exited (3)" in describe_exit(error, cfg)
    error = torch.multiprocessing.ProcessExitedException("", 0, 7, -9, signal_name="SIGKILL")
    with (
        pytest.raises(LostError, match="GPU 0 of this machine was ended by SIGKILL"),
        explained(cfg),
    ):
        raise error


def test_what_is_explained_once_is_not_again():
    with pytest.raises(LostError, match=r"^gloo: once$"), explained(None):
        raise LostError("gloo: once")
