"""`fairseq-electra`: what it lists is there, starts without torch, is called by its own name."""

import subprocess
import sys
from pathlib import Path

import pytest

from commands import run
from fairseq_electra.__main__ import COMMANDS, main
from tiny import ROOT

ELECTRA = (sys.executable, "-m", "fairseq_electra")


# As the installed command starts, and after its output which of the slow packages were imported.
STARTED = """
import sys
sys.argv[0] = "fairseq-electra"
from fairseq_electra.__main__ import main
try:
    main()
finally:
    slow = "numpy scipy sklearn matplotlib torch fairseq transformers tensorflow".split()
    print("slow:", *set(slow).intersection(sys.modules), file=sys.stderr)
"""


def start(*arguments):
    """The command in a new Python: those of python_server.py have torch imported."""
    command = (sys.executable, "-c", STARTED, *arguments)
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_list_has_every_command_and_imports_nothing_slow():
    done = start()
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)
    assert done.stderr == "slow:\n"


@pytest.mark.parametrize("module", ["fairseq_electra", "fairseq_electra.conversion"])
def test_as_a_module_it_starts_without_torch_too(module):
    command = (sys.executable, "-X", "importtime", "-m", module, "--help")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "export-hf" in done.stdout
    assert "| fairseq_electra\n" in done.stderr and "| torch" not in done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_help_imports_nothing_slow_and_ends_with_an_example(name):
    done = start(name, "--help")
    assert done.stderr == "slow:\n"
    assert done.stdout.startswith(f"usage: fairseq-electra {name} ")
    assert done.stdout.endswith(f"example:\n  fairseq-electra {COMMANDS[name].example}\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_argument_is_told_before_anything_slow_is_imported(name):
    done = start(name, "--no-such-option")
    assert done.returncode == 2 and done.stdout == ""
    *_, error, slow = done.stderr.splitlines()
    assert error.startswith(f"fairseq-electra {name}: error: ") and slow == "slow:"


def test_an_example_is_a_command_line_of_its_command():
    for name, command in COMMANDS.items():
        assert command.example.split()[0] == name


def test_a_command_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(SystemExit, match="no command train; there are prepare-data, "):
        main(["train"])


def test_an_error_begins_with_the_command(tmp_path):
    done = run(*ELECTRA, "tag", tmp_path / "none.pt", tmp_path / "none.txt", check=False)
    assert done.returncode == 1
    assert done.output.splitlines()[-1].startswith("fairseq-electra tag: ")


def test_the_user_dir_is_the_package():
    assert run(*ELECTRA, "user-dir").output == f"{ROOT / 'fairseq_electra'}\n"


def test_a_packaged_model_has_a_path(capsys):
    main(["model-path"])
    names = capsys.readouterr().out.split()
    main(["model-path", names[0]])
    assert (Path(capsys.readouterr().out.strip()) / "checkpoint.pt").is_file()
    with pytest.raises(SystemExit, match="no model none: the package has electra_tiny_en"):
        main(["model-path", "none"])
