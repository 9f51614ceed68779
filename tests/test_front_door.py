"""`fairseq-electra`: what it lists is there, starts without torch, is called by its own name."""

import importlib.util
import subprocess
import sys

import pytest

from commands import run
from fairseq_electra.__main__ import COMMANDS, CONVERSION, main
from tiny import ROOT

ELECTRA = (sys.executable, "-m", "fairseq_electra")


def test_the_list_has_every_command_and_starts_without_torch():
    command = [sys.executable, "-X", "importtime", "-m", "fairseq_electra"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)
    assert "fairseq_electra" in done.stderr
    assert "| torch" not in done.stderr and "fairseq.tasks" not in done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_how_it_is_called_with_an_example(name):
    output = run(*ELECTRA, name, "--help").output
    assert output.startswith(f"usage: fairseq-electra {name} ")
    assert output.endswith(f"example:\n  fairseq-electra {COMMANDS[name].example}\n")


def test_an_example_is_a_command_line_of_its_command():
    for name, command in COMMANDS.items():
        assert command.example.split()[0] == name
        module = "fairseq_electra.conversion" if command.module == CONVERSION else command.module
        assert importlib.util.find_spec(module)


def test_a_command_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(SystemExit, match="no command train; there are prepare-data, "):
        main(["train"])


def test_an_error_begins_with_the_command(tmp_path):
    done = run(*ELECTRA, "tag", tmp_path / "none.pt", tmp_path / "none.txt", check=False)
    assert done.returncode == 1
    assert done.output.splitlines()[-1].startswith("fairseq-electra tag: ")


def test_the_user_dir_is_the_package():
    assert run(*ELECTRA, "user-dir").output == f"{ROOT / 'fairseq_electra'}\n"
