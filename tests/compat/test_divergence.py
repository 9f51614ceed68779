"""Numbers that are not finite stop a run with the update, the loss and the last good checkpoint."""

import math
import os
import re
import shutil
import socket
import sys
import threading
from types import SimpleNamespace

import pytest
import torch
from fairseq.trainer import Trainer

from fairseq_electra.compat.updates import divergence, explain_divergence
from fairseq_electra.compat.updates.divergence import check_growth, find_good
from fairseq_electra.process.state import process_state
from tiny import TINY_OPTIONS, USER_DIR

SEEDS = int(os.environ.get("SEEDS", "1"))
UPDATES = int(os.environ.get("UPDATES", "20"))


@pytest.fixture(scope="module")
def trained(data_bin, train_electra, tmp_path_factory):
    """A save-dir with the checkpoints of updates 2 and 4 of 6."""
    folder = tmp_path_factory.mktemp("trained")
    options = ("--save-interval-updates", 2, "--max-update", 4, "--total-num-update", 100)
    train_electra(data_bin, folder, *options, "--disable-validation")
    return folder


def poison(path, value=math.nan):
    """One weight of a checkpoint is not a number."""
    state = torch.load(path, weights_only=True)
    state["model"]["encoder.layers.1.fc1.weight"][0, 0] = value
    torch.save(state, path)


def last_line(done):
    assert done.returncode != 0
    return done.output.strip().splitlines()[-1]


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--clip-norm", 0, "--checkpoint-activations", "--precision", "bf16"),
        *(
            pytest.param(options, marks=pytest.mark.campaign)
            for options in (
                ("--clip-norm", 0),
                ("--checkpoint-activations",),
                ("--precision", "bf16"),
            )
        ),
    ],
)
def test_a_nan_stops_the_run(data_bin, tmp_path, trained, train_electra, options):
    shutil.copytree(trained, tmp_path / "save")
    last = tmp_path / "save" / "checkpoint_last.pt"
    poison(last)
    before = last.read_bytes()
    options = ("--total-num-update", 100, "--disable-validation", *options)
    done = train_electra(data_bin, tmp_path / "save", *options, check=False)
    line = last_line(done)
    assert "stopped at update 5" in line, done.output[-3000:]
    assert "loss nan" in line
    assert "checkpoint_1_4.pt: go on from it" in line
    if "--checkpoint-activations" not in options:  # torch's second forward pass cannot be searched
        assert "NaN detected in output of" in done.output
    assert last.read_bytes() == before


def test_a_diverging_rate_stops_the_run(data_bin, tmp_path, train_electra):
    options = ("--lr", "1e30", "--warmup-updates", 1, "--max-update", 50, "--disable-validation")
    line = last_line(train_electra(data_bin, tmp_path, *options, check=False))
    assert "the training stopped at update" in line
    assert "has no checkpoint with finite weights" in line


def test_a_worker_whose_loss_is_not_finite_stops_both(data_bin, tmp_path, train_electra):
    """The second worker alone weighs its discriminator's loss so that it overflows."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    results = {}

    def worker(rank):
        results[rank] = train_electra(
            *(data_bin, tmp_path / "save", "--disable-validation"),
            *("--disc-weight", ("50", "1e38")[rank]),
            *("--distributed-world-size", 2, "--distributed-rank", rank),
            *("--distributed-init-method", f"tcp://127.0.0.1:{port}"),
            *("--distributed-no-spawn", "--distributed-backend", "gloo"),
            *("--ddp-backend", "legacy_ddp"),
            check=False,
        )

    workers = [threading.Thread(target=worker, args=(rank,)) for rank in range(2)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    for rank in range(2):
        line = last_line(results[rank])
        assert "stopped at update 1," in line, results[rank].output[-3000:]
        assert ("loss inf" in line) == (rank == 1)


def test_a_checkpoint_that_is_not_finite_or_not_whole_is_not_good(trained, tmp_path):
    save = tmp_path / "save"
    shutil.copytree(trained, save)
    shutil.copy(save / "checkpoint_last.pt", save / "crash.pt")
    for name in ("checkpoint_last.pt", "checkpoint_1_4.pt"):
        assert find_good(save).name in ("checkpoint_1_4.pt", "checkpoint_last.pt")
        poison(save / name, math.inf)
    assert find_good(save).name == "checkpoint_1_2.pt"
    whole = (save / "checkpoint_1_2.pt").read_bytes()
    (save / "checkpoint_1_2.pt").write_bytes(whole[: len(whole) // 2])
    assert find_good(save) is None


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
def test_seeds_train_without_nan(data_bin, tmp_path, train_electra, seed, precision):
    options = ("--seed", seed, "--precision", precision, "--max-update", UPDATES)
    done = train_electra(data_bin, tmp_path, *options, "--disable-validation")
    assert f'"num_updates": "{UPDATES}"' in done.output
    assert '"nan"' not in done.output
    assert find_good(tmp_path) is not None


STRICT = """
from fairseq_cli.train import cli_main
from fairseq_electra.compat.updates import divergence
divergence.LOOK_EVERY, divergence.DIVERGED = 10, 0.01
cli_main()
"""


def test_a_loss_that_stays_high_stops_the_run(run_command, data_bin, tmp_path, train_electra):
    """A good run counts as diverging here; what was saved before it did is named."""
    options = ("--save-interval-updates", 10, "--total-num-update", 100, "--disable-validation")
    train_electra(data_bin, tmp_path, "--max-update", 20, *options)
    done = run_command(
        *(sys.executable, "-c", STRICT, data_bin, "--user-dir", USER_DIR, "--cpu"),
        *("--task", "electra", "--criterion", "electra", "--arch", "electra_tiny", *TINY_OPTIONS),
        *("--optimizer", "electra_adam", "--lr-scheduler", "electra_decay", "--lr", "1e-3"),
        *("--warmup-updates", 2, "--max-update", 60, "--clip-norm", 1.0, "--batch-size", 8),
        *("--tokens-per-sample", 32, "--num-workers", 0, "--save-dir", tmp_path, *options),
        check=False,
    )
    assert done.returncode == 1
    last = done.output.strip().splitlines()[-1]
    assert re.search(
        r"stopped after update 50: it diverges\. Its loss, [\d.]+, is 0\.\d+ times", last
    )
    assert "more than 0.01 times that since update 20" in last
    (saved,) = tmp_path.glob("checkpoint_*_20.pt")
    assert f"The last good checkpoint is {saved}: go on from it" in last
    assert "crash.pt" not in last


def test_a_short_spike_does_not_stop_a_run(monkeypatch):
    """Two looks in a row, one below, two again."""
    monkeypatch.setattr(divergence, "advise", lambda good, folder: "")
    updates = iter(range(50, 1000, 50))

    class Trainer:
        cfg = SimpleNamespace(checkpoint=SimpleNamespace(save_dir="none"))

        def get_num_updates(self):
            return next(updates)

    trainer = Trainer()
    found = {}
    monkeypatch.setattr(divergence.metrics, "get_meter", lambda group, name: found[name])
    for times in (9.0, 9.0, 4.0, 9.0, 9.0):
        found["_times_uninformed"] = found["loss"] = SimpleNamespace(avg=times)
        check_growth(trainer)
    with pytest.raises(FloatingPointError, match=r"after update 300.*since update 150"):
        check_growth(trainer)


def test_an_update_that_was_not_made_is_not_looked_at(monkeypatch):
    """As with --fp16 where gradients overflow, after a line of the log, which empties the means."""
    trainer = torch.nn.Identity()
    trainer.criterion, trainer.get_num_updates = torch.nn.Identity(), lambda: 50
    meter = SimpleNamespace(avg=9.0)
    monkeypatch.setattr(divergence.metrics, "get_meter", lambda group, name: meter)
    monkeypatch.setattr(Trainer, "train_step", lambda self, samples, raise_oom: None)
    explain_divergence()
    for _ in range(3):
        Trainer.train_step(trainer, [])
    assert trainer not in process_state.looks_above
    meter.avg = None
    check_growth(trainer)
