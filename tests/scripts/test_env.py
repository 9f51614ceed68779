"""scripts/env.sh picks the Python that has fairseq, or says what to run."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ENV = Path(__file__).parents[2] / "scripts" / "env.sh"


@pytest.fixture
def source_env(tmp_path):
    """Source a copy of env.sh in a checkout; its pythons, where there are any, succeed or fail."""

    def source(
        on_path: str, in_venv: str | None, active: str | None = None
    ) -> subprocess.CompletedProcess:
        scripts = tmp_path / "checkout" / "scripts"
        scripts.mkdir(parents=True)
        shutil.copy(ENV, scripts)
        make_python(tmp_path / "bin" / "python", on_path)
        if in_venv:
            make_python(tmp_path / "checkout" / ".venv" / "bin" / "python", in_venv)
        if active:
            make_python(tmp_path / "active" / "bin" / "python", active)
        command = f'set -euo pipefail; source "{scripts}/env.sh"; echo "$PYTHON $PYTHONPATH"'
        env = {**os.environ, "PATH": f"{tmp_path}/bin:/usr/bin:/bin", "PYTHONPATH": "before"}
        env.pop("CONDA_PREFIX", None)
        env["VIRTUAL_ENV"] = f"{tmp_path}/active" if active else ""
        return subprocess.run(["bash", "-c", command], env=env, capture_output=True, text=True)

    return source


def make_python(path: Path, result: str) -> None:
    """A stand-in for Python whose imports succeed ("true") or not ("false")."""
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\n{result}\n")
    path.chmod(0o755)


def test_the_active_environment_comes_first(tmp_path, source_env):
    done = source_env("true", in_venv="true", active="true")
    assert done.stdout == f"{tmp_path}/active/bin/python {tmp_path}/checkout:before\n"


@pytest.mark.parametrize("active", ["false", None])
def test_what_setup_made_comes_second(tmp_path, source_env, active):
    """A fairseq somewhere on PATH does not stand in for the environment that setup.sh filled."""
    done = source_env("true", in_venv="true", active=active)
    assert done.stdout.startswith(f"{tmp_path}/checkout/.venv/bin/python ")


@pytest.mark.parametrize("in_venv", ["false", None])
def test_the_python_of_path_comes_last(tmp_path, source_env, in_venv):
    assert source_env("true", in_venv).stdout.startswith(f"{tmp_path}/bin/python ")


@pytest.mark.parametrize("in_venv", ["false", None])
def test_without_fairseq_it_says_what_to_run(source_env, in_venv):
    done = source_env("false", in_venv)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "run scripts/setup.sh first" in done.stderr
