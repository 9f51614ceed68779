"""scripts/env.sh picks the Python that has fairseq, or says what to run."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ENV = Path(__file__).parents[2] / "scripts" / "env.sh"


@pytest.fixture
def source_env(tmp_path):
    """Source a copy of env.sh in a checkout; `python` on PATH and in .venv succeed or fail."""

    def source(on_path: str, in_venv: str | None) -> subprocess.CompletedProcess:
        scripts = tmp_path / "checkout" / "scripts"
        scripts.mkdir(parents=True)
        shutil.copy(ENV, scripts)
        make_python(tmp_path / "bin" / "python", on_path)
        if in_venv:
            make_python(tmp_path / "checkout" / ".venv" / "bin" / "python", in_venv)
        command = f'set -euo pipefail; source "{scripts}/env.sh"; echo "$PYTHON $PYTHONPATH"'
        env = {**os.environ, "PATH": f"{tmp_path}/bin:/usr/bin:/bin", "PYTHONPATH": "before"}
        return subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True)

    return source


def make_python(path: Path, result: str) -> None:
    """A stand-in for Python whose imports succeed ("true") or not ("false")."""
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\n{result}\n")
    path.chmod(0o755)


def test_the_active_python_comes_first(tmp_path, source_env):
    done = source_env("true", in_venv="true")
    assert done.stdout == f"{tmp_path}/bin/python {tmp_path}/checkout:before\n"


def test_the_virtual_environment_comes_second(tmp_path, source_env):
    done = source_env("false", in_venv="true")
    assert done.stdout.startswith(f"{tmp_path}/checkout/.venv/bin/python ")


@pytest.mark.parametrize("in_venv", ["false", None])
def test_without_fairseq_it_says_what_to_run(source_env, in_venv):
    done = source_env("false", in_venv)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "run scripts/setup.sh first" in done.stderr
