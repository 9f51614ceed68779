"""The same run on one process, on two (gloo), accumulated, and resumed with another number."""

import json
import re
import signal
import sys

import pytest
import torch

from commands import start
from tiny import TINY_OPTIONS, USER_DIR
from tiny_runs import LONGEST, finish, launch

# an update has the same two batches of 4 sentences on two workers and on one that accumulates
ONE = ("--batch-size", 4, "--update-freq", 2, "--log-interval", 1)
TWO = ("--batch-size", 4, "--update-freq", 1, "--log-interval", 1)
SHORT = ("--max-update", 8, "--lr-scheduler", "electra_decay", "--total-num-update", 26)
# clocks, how a batch was distributed, and the best of validations, of which a stop adds one
SKIPPED = re.compile(r"wps|ups|wall|train_wall|wpb|bsz|update|best_loss")


def read_log(output):
    """{update: metrics} of the lines of all updates and of all validations."""
    lines = re.findall(r"\| (train_inner|valid) \| (\{.*\})", output)
    logged = [(kind, json.loads(line)) for kind, line in lines]
    return {
        (kind, int(line.get("num_updates", line.get("valid_num_updates")))): {
            name: float(value)
            for name, value in line.items()
            if not SKIPPED.fullmatch(name.removeprefix("valid_"))
        }
        for kind, line in logged
    }


def assert_close_logs(ours, theirs):
    """fairseq rounds what it prints to 3 or 4 places; losses agree to 1e-5 before that."""
    assert ours.keys() == theirs.keys()
    for place, line in ours.items():
        assert line == pytest.approx(theirs[place], abs=1.01e-3, rel=1e-5), place


def assert_close_weights(ours, theirs):
    ours, theirs = (
        torch.load(folder / "checkpoint_last.pt", weights_only=True)["model"]
        for folder in (ours, theirs)
    )
    for name, tensor in ours.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


@pytest.fixture(scope="module")
def alone(data_bin, tmp_path_factory):
    """26 updates over more than one epoch on one process: save-dir and log."""
    save_dir = tmp_path_factory.mktemp("alone")
    return save_dir, read_log(finish(launch(data_bin, save_dir, ONE)))


def test_two_workers_train_as_one_that_accumulates(data_bin, tmp_path, alone):
    save_dir, log = alone
    assert len({update for kind, update in log if kind == "valid"}) > 1  # more than one epoch
    assert_close_logs(read_log(finish(launch(data_bin, tmp_path, TWO, 2))), log)
    assert_close_weights(tmp_path, save_dir)


@pytest.mark.campaign
@pytest.mark.parametrize("before", [1, 2])
def test_a_run_goes_on_with_another_number_of_workers(data_bin, tmp_path, alone, before):
    """Inside an epoch: fairseq alone would leave sentences out, or read them again."""
    save_dir, log = alone
    options = {1: ONE, 2: TWO}
    finish(launch(data_bin, tmp_path, (*options[before], *SHORT), before))
    after = 3 - before
    resumed = read_log(finish(launch(data_bin, tmp_path, options[after], after)))
    assert min(update for _, update in resumed) == 9
    assert_close_logs(resumed, {place: line for place, line in log.items() if place[1] > 8})
    assert_close_weights(tmp_path, save_dir)


@pytest.mark.parametrize(
    ("number", "victim"),
    [
        (signal.SIGKILL, 0),
        pytest.param(signal.SIGTERM, 1, marks=pytest.mark.campaign),
        pytest.param(signal.SIGKILL, 1, marks=pytest.mark.campaign),
        pytest.param(signal.SIGTERM, 0, marks=pytest.mark.campaign),
    ],
)
def test_a_worker_that_dies_stops_the_other(data_bin, tmp_path, number, victim):
    commands = launch(data_bin, tmp_path, (*TWO, "--max-update", 100_000, "--no-save"), 2)
    while '"num_updates": "3"' not in commands[0].output:
        assert commands[0].poll() is None, commands[0].output[-3000:]
    commands[victim].send(number)
    assert commands[victim].wait(LONGEST) == -number
    other = commands[1 - victim]
    assert other.wait(LONGEST) > 0
    assert re.search("Connection (closed|reset) by peer|Broken pipe", other.output)


TORCHRUN = """
import sys
from fairseq_cli.train import cli_main
cli_main()
"""


@pytest.mark.campaign
def test_torchrun_trains_together_without_a_gpu(data_bin, tmp_path, alone, run_command):
    """fairseq would train two copies, or with --distributed-world-size divide by no GPUs."""
    script = tmp_path / "train.py"
    script.write_text(TORCHRUN)
    done = run_command(
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", 2),
        *("--master-port", 0, "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", script),
        *(data_bin, "--user-dir", USER_DIR, "--cpu", "--save-dir", tmp_path / "run"),
        *("--task", "electra", "--criterion", "electra", "--arch", "electra_tiny", *TINY_OPTIONS),
        *("--optimizer", "electra_adam", "--lr-scheduler", "electra_decay", "--lr", "1e-3"),
        *("--warmup-updates", 2, "--max-update", 26, "--clip-norm", 1.0, "--num-workers", 0),
        *("--tokens-per-sample", 32, "--log-format", "json", *TWO),
    )
    assert "--distributed-backend gloo in place of nccl" in done.output
    assert_close_logs(read_log(done.output), alone[1])
    assert_close_weights(tmp_path / "run", alone[0])


def slurm_options(data, save_dir):
    return (
        *(data, "--user-dir", USER_DIR, "--cpu", "--task", "electra", "--criterion", "electra"),
        *("--arch", "electra_tiny", *TINY_OPTIONS, "--optimizer", "electra_adam", "--lr", "1e-3"),
        *("--lr-scheduler", "electra_decay", "--max-update", 2, "--tokens-per-sample", 32),
        *("--batch-size", 4, "--num-workers", 0, "--save-dir", save_dir),
    )


def test_tasks_of_srun_that_would_train_copies_are_refused(data_bin, tmp_path):
    command = start(
        "fairseq_cli.train", *slurm_options(data_bin, tmp_path / "run"), SLURM_STEP_NUM_TASKS=2
    )
    assert command.wait() != 0
    assert "--distributed-world-size 2 --distributed-port" in command.output.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_one_task_of_srun_trains(data_bin, tmp_path):
    command = start(
        "fairseq_cli.train", *slurm_options(data_bin, tmp_path / "run"), SLURM_STEP_NUM_TASKS=1
    )
    assert command.wait() == 0
