"""What a process remembers: nothing at first, then what a training leaves, nothing when reset."""

import json
import logging
import os
import re
import sys
from dataclasses import fields
from threading import Event, Thread

import pytest
import torch

from fairseq_electra.compat.checkpoints.save_dir_lock import lock_save_dir
from fairseq_electra.process.state import ProcessState, process_state, warn_once
from tiny import ROOT, TINY_OPTIONS, USER_DIR

PACKAGE = ROOT / "fairseq_electra"


def list_users(name: str) -> set:
    """The files of the package that name a field."""
    word = re.compile(rf"process_state\.{name}\b")
    paths = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    return {name for name, path in paths.items() if word.search(path.read_text())}


@pytest.mark.parametrize("field", fields(ProcessState), ids=lambda field: field.name)
def test_each_field_says_who_uses_it(field):
    assert list_users(field.name) == {field.metadata["written"], field.metadata["read"]}
    assert field.metadata["what"]


TRAINING = """
import json
from fairseq_cli.train import cli_main
from fairseq_electra.compat.loading.loading_ahead import join_consumers
from fairseq_electra.process.state import ProcessState, process_state

print("FRESH", process_state == ProcessState() and not process_state.patience)
cli_main()
names = ("split_checksums", "whole_files", "save_dir_locks", "patience")
filled = {name: [*map(str, getattr(process_state, name))] for name in names}
print("FILLED", json.dumps(filled))
join_consumers(process_state.loading_threads)  # it stopped inside an epoch
process_state.reset()
print("RESET", process_state == ProcessState() and not process_state.patience)
"""


def test_a_training_fills_it_and_a_reset_empties_it(run_command, train_electra, data_bin, tmp_path):
    """One that goes on from a checkpoint."""
    train_electra(data_bin, tmp_path, "--max-update", 2, "--total-num-update", 9)
    output = run_command(
        *(sys.executable, "-c", TRAINING, data_bin, "--user-dir", USER_DIR, "--cpu"),
        *("--task", "electra", "--criterion", "electra", "--arch", "electra_tiny", *TINY_OPTIONS),
        *("--optimizer", "electra_adam", "--lr-scheduler", "electra_decay", "--lr", "1e-3"),
        *("--total-num-update", 9, "--max-update", 4, "--batch-size", 8, "--patience", 3),
        *("--tokens-per-sample", 32, "--num-workers", 0, "--save-dir", tmp_path),
    ).output
    said = dict(re.findall(r"^(FRESH|FILLED|RESET) (.+)$", output, re.MULTILINE))
    assert said["FRESH"] == said["RESET"] == "True"
    filled = json.loads(said["FILLED"])
    assert set(filled["split_checksums"]) == {str(data_bin / name) for name in ("train", "valid")}
    assert len(filled["whole_files"]) == 1
    (lock,) = filled["save_dir_locks"]
    assert str(tmp_path / "training.lock") in lock
    assert filled["patience"] == ["best", "num_runs"]


def in_child(check) -> bool:
    """What `check()` gives in a forked process."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if check() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def can_lock(folder) -> bool:
    try:
        lock_save_dir(str(folder))
    except ValueError:
        return False
    return True


def test_a_reset_gives_up_locks(tmp_path):
    assert can_lock(tmp_path)
    assert not in_child(lambda: can_lock(tmp_path))
    process_state.reset()
    assert in_child(lambda: can_lock(tmp_path))
    assert can_lock(tmp_path)


def test_a_forked_process_knows_what_its_parent_knew_and_a_reset_in_it_is_its_own(tmp_path):
    """The parent keeps its lock, too."""
    process_state.split_checksums[tmp_path] = 7
    assert can_lock(tmp_path)

    def check() -> bool:
        known = process_state.split_checksums == {tmp_path: 7}
        process_state.reset()
        return known and not process_state.split_checksums and not can_lock(tmp_path)

    assert in_child(check)
    assert process_state.split_checksums == {tmp_path: 7}
    assert not in_child(lambda: can_lock(tmp_path))


def test_threads_that_run_are_not_forgotten():
    """They end before the process does."""
    stop = Event()
    thread = Thread(target=stop.wait)
    process_state.loading_threads.add(thread)
    thread.start()
    process_state.reset()
    assert list(process_state.loading_threads) == [thread]
    stop.set()
    thread.join()
    process_state.reset()
    assert not process_state.loading_threads


def test_a_trainer_is_not_kept():
    trainer = torch.nn.Identity()
    process_state.looks_above[trainer] = 2
    del trainer
    assert not process_state.looks_above


def test_a_warning_is_given_once(caplog):
    logger = logging.getLogger("once")
    for _ in range(2):
        warn_once(logger, "slow")
    warn_once(logger, "slower")
    assert [record.getMessage() for record in caplog.records] == ["slow", "slower"]
