"""Runs that are killed again and again end as the run that was never stopped, bit for bit.

`KILLS=100 pytest -m "campaign or not campaign" tests/reliability/test_resume.py` kills so often in
each configuration, at random updates and while a checkpoint is written; `KILL_SEED` changes the
moments.
"""

import contextlib
import json
import os
import random
import re
import resource
import signal
import time
from pathlib import Path

import pytest
import torch

from tiny_runs import LONGEST, finish, launch

KILLS = int(os.environ.get("KILLS", "0"))  # of each run, in place of one, and two in the campaign
SEED = int(os.environ.get("KILL_SEED", "1"))
CLOCKS = {"wps", "ups", "wall", "train_wall"}  # with or without train_ and valid_ before them
SAVE = ("--save-interval-updates", 3)
FREQUENT = ("--update-freq", 2, "--batch-size", 4)
KEEP = ("--keep-interval-updates", 1, "--no-epoch-checkpoints")
DROP = ("--dropout", 0.1, "--attention-dropout", 0.1)
AVERAGE = ("--store-ema", "--ema-decay", 0.9)
CONFIGURATIONS = {
    "joined": (
        *(*SAVE, *FREQUENT, *KEEP, *DROP, *AVERAGE),
        *("--num-workers", 2, "--sentence-pairs", "--mlm-updates", 13, "--weight-init", "local"),
    ),
    "two workers": (*SAVE, "--batch-size", 4),
    "full disk": SAVE,
}
APART = {
    "plain": SAVE,
    "epoch ends only": ("--batch-size", 32),
    "update-freq": (*SAVE, *FREQUENT),
    "loader workers": (*SAVE, "--num-workers", 2),
    "keep interval": (*SAVE, *KEEP),
    "sentence pairs": (*SAVE, "--sentence-pairs"),
    "dropout": (*SAVE, *DROP),
    "averaged weights": (*SAVE, *AVERAGE),
    "two stages": (*SAVE, "--mlm-updates", 13, "--weight-init", "local"),
    "out of memory": SAVE,
}
STARVE = "no more memory"  # an end by a failing allocation, at whatever place
FILL = "no more room"  # an end by a failing write, at whatever byte of a checkpoint
WAYS = {"out of memory": (STARVE,), "full disk": (FILL,)}  # the others are killed by signals
LOG_BYTES = 1 << 16  # more than a run prints
SIGNALS = (signal.SIGKILL, signal.SIGTERM)


def kill(commands, save_dir, chance, ways) -> bool:
    """End one worker or all, at a moment by chance; False if the run had ended before."""
    wait_for_moment(commands[0], save_dir, chance)
    way = chance.choice(ways)
    # workers that have not met wait for each other, up to torch's 30 minutes
    together = "Start iterating" not in commands[0].output or chance.random() < 0.5
    victims = commands if together else [chance.choice(commands)]
    for command in victims:
        if way == STARVE:
            starve(command)
        elif way == FILL:
            fill(command, save_dir, chance)
        else:
            command.send(way)
    statuses = [command.wait(LONGEST) for command in commands]
    assert all(status != 0 for status in statuses) or 0 in statuses, statuses
    if way == FILL and all(statuses):
        assert "could not be written: File too large" in commands[0].output
        assert not any(save_dir.glob("*.tmp"))
    return -way in statuses if way in SIGNALS else all(statuses)


def starve(command, seconds=15.0) -> None:
    """Let every further request for memory fail; kill what does not ask for any."""
    with contextlib.suppress(ProcessLookupError):  # it has ended
        resource.prlimit(command.pid, resource.RLIMIT_AS, (0, 0))
    deadline = time.monotonic() + seconds
    while command.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    command.send(signal.SIGKILL)


def fill(command, save_dir: Path, chance) -> None:
    """Let every further write fail beyond a byte by chance, up to a whole checkpoint.

    As on a full disk, the run goes on until it writes. fairseq's log goes to the same kind of file,
    so the byte lies behind what that may have.
    """
    written = max((path.stat().st_size for path in save_dir.glob("*.pt")), default=1 << 19)
    room = LOG_BYTES + chance.randrange(max(1, written - LOG_BYTES))
    with contextlib.suppress(ProcessLookupError):  # it has ended
        resource.prlimit(command.pid, resource.RLIMIT_FSIZE, (room, room))


def wait_for_moment(command, save_dir: Path, chance) -> None:
    """Until a checkpoint is being written, or for a part of a run after its training began."""
    saving = chance.random() < 0.5
    begun, delay = None, chance.random()
    deadline = time.monotonic() + LONGEST
    while command.poll() is None and time.monotonic() < deadline:
        if saving and any(save_dir.glob("*.tmp")):
            return
        if begun is None and "Start iterating" in command.output:
            begun = time.monotonic()
        if not saving and begun is not None and time.monotonic() > begun + delay:
            return
        time.sleep(0.001)


def read_numbers(output: str, numbers: dict) -> dict:
    """Add what a run logged, by kind of line and update; a second line must equal the first."""
    for kind, line in re.findall(r"\| (train_inner|train|valid) \| (\{.*\})\n", output):
        logged = {
            name: value
            for name, value in json.loads(line).items()
            if re.sub("^(train|valid)_", "", name) not in CLOCKS and name not in CLOCKS
        }
        (update,) = (logged[name] for name in logged if name.endswith("num_updates"))
        assert numbers.setdefault((kind, update), logged) == logged
    return numbers


def read_state(save_dir: Path) -> dict:
    """What of the last checkpoint must be the same: all but clocks and paths."""
    state = torch.load(save_dir / "checkpoint_last.pt", weights_only=True)
    extra = state["extra_state"]
    kept = {name: extra.get(name) for name in ("train_iterator", "val_loss", "best", "ema")}
    return {
        "model": state["model"],
        "optimizer": state["last_optimizer_state"],
        "updates": state["optimizer_history"][-1]["num_updates"],
        "schedule": state["optimizer_history"][-1]["lr_scheduler_state"],
        **kept,
    }


def assert_same(ours, theirs, name="state") -> None:
    """Equal to the last bit, in all their parts."""
    assert type(ours) is type(theirs), name
    if torch.is_tensor(ours):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs), name
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), name
        for key in ours:
            assert_same(ours[key], theirs[key], f"{name}.{key}")
    elif isinstance(ours, (list, tuple)):
        assert len(ours) == len(theirs), name
        for index, (our, their) in enumerate(zip(ours, theirs)):
            assert_same(our, their, f"{name}.{index}")
    else:
        assert ours == theirs, name


def has_ended(command) -> bool:
    """Whether the process and its loader workers, which share its group, are gone."""
    try:
        os.killpg(command.pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(
    ("name", "usual"),
    [
        *((name, 1) for name in CONFIGURATIONS),
        *(pytest.param(name, 2, marks=pytest.mark.campaign) for name in (*CONFIGURATIONS, *APART)),
    ],
)
def test_a_killed_run_ends_as_if_it_never_was(data_bin, tmp_path, name, usual):
    options = (*{**CONFIGURATIONS, **APART}[name], "--max-update", 20)  # an epoch has 16
    workers = 2 if name == "two workers" else 1
    whole = read_numbers(finish(launch(data_bin, tmp_path / "whole", options, workers)), {})
    chance, kills, passes, started = random.Random(f"{name} {SEED}"), 0, 0, []
    wanted = KILLS or usual
    while kills < wanted:
        save_dir, logged, ended, before = tmp_path / str(passes), {}, False, kills
        while not ended:
            commands = launch(data_bin, save_dir, options, workers, end=True)
            started += commands
            ways = WAYS.get(name, SIGNALS)
            killed = kills < wanted and kill(commands, save_dir, chance, ways)
            kills += killed
            ended = not killed
            if ended:
                finish(commands)
            read_numbers(commands[0].output, logged)
        # killed between an epoch's checkpoint and its line in the log, it goes on after both
        missing = whole.keys() - logged.keys()
        assert {kind for kind, _ in missing} <= {"train"} and len(missing) <= kills - before
        assert logged == {line: whole[line] for line in logged}
        assert_same(read_state(save_dir), read_state(tmp_path / "whole"))
        passes += 1
    print(f"RESUME {name}: {kills} kills, {len(started)} processes, {passes} runs compared")
    deadline = time.monotonic() + LONGEST
    while not all(map(has_ended, started)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert all(map(has_ended, started))


def test_a_complete_run_that_is_started_again_changes_nothing(data_bin, tmp_path):
    """fairseq alone trains one more update, and saves it."""
    options = (*SAVE, "--max-update", 5)
    finish(launch(data_bin, tmp_path, options))
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.pt")}
    output = finish(launch(data_bin, tmp_path, options))
    assert "the run has made its 5 updates" in output
    assert '"num_updates": "6"' not in output
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.pt")} == before
    assert '"num_updates": "10"' in finish(launch(data_bin, tmp_path, ("--max-update", 10)))
