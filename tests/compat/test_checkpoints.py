"""Changes in how fairseq writes and reads checkpoints; more in checkpoints/test_files.py."""

import argparse
import subprocess
import sys

import pytest
import torch
from fairseq import checkpoint_utils

from commands import run
from fairseq_electra.compat import apply, checkpoints


def test_a_checkpoint_with_a_namespace_loads(tmp_path):
    torch.save({"args": argparse.Namespace(arch="electra_tiny")}, tmp_path / "checkpoint.pt")
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["args"].arch == "electra_tiny"


@pytest.mark.campaign
def test_without_the_plugin_it_does_not(tmp_path):
    torch.save({"args": argparse.Namespace(arch="electra_tiny")}, tmp_path / "checkpoint.pt")
    code = f"import torch; torch.load({str(tmp_path / 'checkpoint.pt')!r}, weights_only=True)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "argparse.Namespace" in done.stderr


class Touch:
    """Pickles as a call that creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_checkpoint_still_cannot_run_code(tmp_path):
    torch.save({"args": Touch(str(tmp_path / "made"))}, tmp_path / "checkpoint.pt")
    with pytest.raises(Exception, match="open"):
        torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert not (tmp_path / "made").exists()


FULL_DISK = """
import contextlib, pathlib, resource, signal, sys
{load_plugin}
from fairseq.file_io import PathManager

folder = pathlib.Path(sys.argv[1])
(folder / "checkpoint_1_3.pt").write_bytes(b"new" * 10_000)
(folder / "checkpoint_last.pt").write_bytes(b"former")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
with contextlib.suppress(OSError):
    PathManager.copy(str(folder / "checkpoint_1_3.pt"), str(folder / "checkpoint_last.pt"), True)
print((folder / "checkpoint_last.pt").read_bytes() == b"former")
"""


@pytest.mark.parametrize(
    ("load_plugin", "kept"),
    [
        pytest.param("", "False", marks=pytest.mark.campaign),
        ("import fairseq_electra", "True"),
    ],
)
def test_a_failed_copy_keeps_the_former_checkpoint(tmp_path, load_plugin, kept):
    code = FULL_DISK.format(load_plugin=load_plugin)
    if load_plugin:
        output = run(sys.executable, "-c", code, tmp_path).output
    else:
        output = subprocess.check_output([sys.executable, "-c", code, tmp_path], text=True)
    assert output.split()[-1] == kept


@pytest.mark.parametrize("fp32", [False, True])
def test_averages_begin_as_the_weights_of_a_checkpoint_without(
    data_bin, tmp_path, train_electra, fp32
):
    """One update after those that a run without --store-ema has made."""
    options = ("--disable-validation", "--total-num-update", 9)
    train_electra(data_bin, tmp_path, "--max-update", 2, *options)
    before = torch.load(tmp_path / "checkpoint_last.pt", weights_only=True)["model"]
    options += ("--store-ema", "--ema-decay", 0.75) + fp32 * ("--ema-fp32",)
    train_electra(data_bin, tmp_path, "--max-update", 3, *options)
    state = torch.load(tmp_path / "checkpoint_last.pt", weights_only=True)
    averages = state["extra_state"]["ema"]
    assert averages.keys() == state["model"].keys()
    for name, after in state["model"].items():
        if after.is_floating_point():
            expected = 0.75 * before[name] + 0.25 * after
            torch.testing.assert_close(averages[name], expected, msg=name)


def test_changes_are_made_once():
    patched = checkpoint_utils.load_checkpoint, checkpoint_utils.torch_persistent_save
    assert all(function.__module__ == checkpoints.__name__ for function in patched)
    apply()
    assert patched == (checkpoint_utils.load_checkpoint, checkpoint_utils.torch_persistent_save)
