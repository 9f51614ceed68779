"""A folder appears complete or not at all, and nothing is written over."""

import os
import signal
from pathlib import Path

import pytest

from fairseq_electra.new_folder import new_folder


def list_names(folder: Path) -> list:
    return sorted(path.name for path in folder.iterdir())


def test_only_what_is_in_the_folder_is_kept(tmp_path):
    with new_folder(tmp_path / "deep" / "out") as folder:
        (folder / "a").write_text("kept")
        (folder.parent / "b").write_text("temporary")
        assert not (tmp_path / "deep" / "out").exists()
    assert (tmp_path / "deep" / "out" / "a").read_text() == "kept"
    assert list_names(tmp_path / "deep") == ["out"]


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("half")
        1 / 0  # noqa: B018 (an error inside the block)
    assert list_names(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_nothing(tmp_path, number):
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as stop, new_folder(tmp_path / "out"):
        os.kill(os.getpid(), number)
    assert stop.value.code == 128 + number
    assert list_names(tmp_path) == []
    assert signal.getsignal(number) is before


def test_what_is_there_is_refused_and_kept(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("out", "file"):
        with pytest.raises(ValueError, match="exists already"), new_folder(tmp_path / name):
            pytest.fail("the block must not run")
    assert (tmp_path / "out" / "mine").read_text() == "mine"
    assert (tmp_path / "file").read_text() == "mine"


def test_what_appears_meanwhile_is_kept(tmp_path):
    with pytest.raises(ValueError, match="exists already"), new_folder(tmp_path / "out"):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "other").write_text("other")
    assert (tmp_path / "out" / "other").read_text() == "other"


def test_an_empty_folder_and_a_leftover_do_not_disturb(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out.partial-old").mkdir()
    with new_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("new")
    assert (tmp_path / "out" / "a").read_text() == "new"
    assert (tmp_path / "out.partial-old").exists()
    assert "out.partial-old is of another or an unfinished run" in capsys.readouterr().err
