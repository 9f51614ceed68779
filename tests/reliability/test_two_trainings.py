"""A second training on the save-dir of one that runs is refused before it touches a file."""

import errno
import fcntl
import os
import signal
import socket

import pytest

from commands import start, wait_for
from fairseq_electra.compat.checkpoints import save_dir_lock
from fairseq_electra.compat.checkpoints.save_dir_lock import NAME, lock_save_dir
from tiny_runs import LONGEST, finish, launch, run_options

ENDLESS = ("--log-interval", 1, "--max-update", 100_000, "--save-interval-updates", 2)


def wait_for_checkpoint(command, save_dir):
    wait_for(lambda: (save_dir / "checkpoint_last.pt").exists() or None, LONGEST)
    assert command.poll() is None


def stop(commands):
    """All at once, so that what they have written stays."""
    for command in commands:
        command.send(signal.SIGKILL)
        command.wait(LONGEST)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.campaign)])
def test_the_second_is_refused_and_names_the_first(data_bin, tmp_path, workers):
    """Every worker of it; the first goes on."""
    first = launch(data_bin, tmp_path, (*ENDLESS, "--batch-size", 4), workers)
    wait_for_checkpoint(first[0], tmp_path)
    first[0].send(signal.SIGSTOP)  # so that only the second could change anything
    part = tmp_path / "checkpoint_9_9.pt.tmp"
    part.write_bytes(b"being written")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    try:
        for command in launch(data_bin, tmp_path, ("--batch-size", 4), workers):
            assert command.wait(LONGEST) == 1
            last = command.output.strip().splitlines()[-1]
            assert f"another training writes to --save-dir {tmp_path}" in last
            assert f"host {socket.gethostname()}, pid {first[0].pid}" in last
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
        looks = launch(data_bin, tmp_path, ("--no-save", "--max-update", 1))
        assert "Loaded checkpoint" in finish(looks)
        assert part.exists()
    finally:
        stop(first)


def test_a_killed_one_is_started_again_at_once(data_bin, tmp_path):
    """Its loader workers may live a little longer."""
    command = run_options(data_bin, tmp_path, *ENDLESS, "--num-workers", 2)
    first = start(*command)
    wait_for_checkpoint(first, tmp_path)
    first.send(signal.SIGKILL)
    first.wait(LONGEST)
    assert "Loaded checkpoint" in finish(launch(data_bin, tmp_path, ("--max-update", 4)))


def in_child(function) -> int:
    """The exit status of a forked process that calls `function`: 1 if it raises ValueError."""
    child = os.fork()
    if child == 0:
        try:
            function()
            os._exit(0)
        except ValueError:
            os._exit(1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_process_may_lock_twice_and_its_child_may_not(tmp_path):
    lock_save_dir(str(tmp_path))
    lock_save_dir(str(tmp_path))
    assert in_child(lambda: lock_save_dir(str(tmp_path))) == 1
    assert in_child(lambda: lock_save_dir(str(tmp_path))) == 1  # the end of one frees nothing


@pytest.mark.parametrize("place", ["lockf", "open"])
def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, caplog, place):
    def fail(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with monkeypatch.context() as patched:
        patched.setattr(fcntl if place == "lockf" else save_dir_lock.os, place, fail)
        lock_save_dir(str(tmp_path))
    assert f"{tmp_path / NAME} cannot be locked (No locks available)" in caplog.text
