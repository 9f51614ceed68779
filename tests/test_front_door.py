"""`fairseq-electra`: what it lists is there, starts without torch, is called by its own name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from commands import run
from fairseq_electra.__main__ import COMMANDS, main
from tiny import ROOT

ELECTRA = (sys.executable, "-m", "fairseq_electra")


# Each command line as the installed command starts it: its status, what it printed, and which of
# the slow packages are imported after it.
STARTED = """
import contextlib, io, json, sys
lines, sys.argv = sys.argv[1:], ["fairseq-electra"]
from fairseq_electra.__main__ import main
slow = set("numpy scipy sklearn matplotlib torch fairseq transformers tensorflow".split())
for line in lines:
    status, out, err = 0, io.StringIO(), io.StringIO()
    sys.argv = ["fairseq-electra", *line.split()]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as stop:
            status = stop.code
    print(json.dumps([status, out.getvalue(), err.getvalue(), sorted(slow & set(sys.modules))]))
"""


def start(*lines):
    """What became of each command line, in a new Python: python_server.py's has torch."""
    command = (sys.executable, "-c", STARTED, *lines)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_list_has_every_command_and_imports_nothing_slow():
    ((status, out, err, slow),) = start("")
    assert all(f"\n  {name} " in out for name in COMMANDS)
    assert (status, err, slow) == (0, "", [])


@pytest.mark.parametrize("module", ["fairseq_electra", "fairseq_electra.conversion"])
def test_as_a_module_it_starts_without_torch_too(module):
    command = (sys.executable, "-X", "importtime", "-m", module, "--help")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "export-hf" in done.stdout
    assert "| fairseq_electra\n" in done.stderr and "| torch" not in done.stderr


def test_help_imports_nothing_slow_and_ends_with_an_example():
    ends = start(*(f"{name} --help" for name in COMMANDS))
    for name, (status, out, err, slow) in zip(COMMANDS, ends, strict=True):
        assert (name, status or 0, err, slow) == (name, 0, "", [])
        assert out.startswith(f"usage: fairseq-electra {name} ")
        assert out.endswith(f"example:\n  fairseq-electra {COMMANDS[name].example}\n")


def test_a_wrong_argument_is_told_before_anything_slow_is_imported():
    ends = start(*(f"{name} --no-such-option" for name in COMMANDS))
    for name, (status, out, err, slow) in zip(COMMANDS, ends, strict=True):
        assert (name, status, out, slow) == (name, 2, "", [])
        assert err.splitlines()[-1].startswith(f"fairseq-electra {name}: error: ")


def test_a_recipe_where_gpus_are_hidden_imports_nothing_slow(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    ends = start("recipe tiny", "recipe tiny --model roberta")
    assert all(out.startswith("fairseq-train ") and "--cpu" in out for _, out, _, _ in ends)
    assert [(status or 0, slow) for status, _, _, slow in ends] == [(0, [])] * 2


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
