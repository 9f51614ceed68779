"""scripts/setup.sh and setup.py pick the fairseq that a Python can have, or say what is missing."""

import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tiny import ROOT

X86, ARM, MAC = "linux-x86_64", "linux-aarch64", "macosx-14.0-arm64"
WHEEL, SOURCE = "ve-fairseq==0.12.3", "fairseq-fixed==0.12.3.1"
# What setup.sh asks of Python: its version and system, headers, prefix, a venv, pip.
PYTHON = """#!/bin/sh
case "$*" in
    *get_platform*) echo {version} {system} ;;
    *'"include"'*) echo {include} ;;
    *sys.prefix*) dirname "$(dirname "$0")" ;;
    --version) echo Python {version}.9 ;;
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    *" install "*) echo "$*" >> {log} ;;
esac
"""


class Machine:
    """A checkout and a PATH with these Pythons and commands alone."""

    def __init__(self, folder: Path):
        self.checkout, self.bin, self.log = folder / "checkout", folder / "bin", folder / "pip.log"
        (self.checkout / "scripts").mkdir(parents=True)
        for name in ("setup.py", "scripts/setup.sh", "scripts/requirements.txt"):
            shutil.copy(ROOT / name, self.checkout / name)
        self.bin.mkdir()
        for name in ("bash", "sh", "dirname", "cat", "cksum", "grep", "mkdir", "cp"):
            (self.bin / name).symlink_to(shutil.which(name))
        (folder / "Python.h").touch()

    def add_python(self, name: str, version: str, system: str = X86, headers: bool = True) -> None:
        include = self.log.parent if headers else self.bin
        text = PYTHON.format(version=version, system=system, include=include, log=self.log)
        path = self.bin / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def add_command(self, name: str) -> None:
        (self.bin / name).symlink_to("/bin/true")

    def set_up(self, active: str = "") -> subprocess.CompletedProcess:
        env = {**os.environ, "PATH": str(self.bin), "VIRTUAL_ENV": active, "CXX": ""}
        env.pop("CONDA_PREFIX", None)
        command = ["bash", self.checkout / "scripts" / "setup.sh"]
        return subprocess.run(command, env=env, capture_output=True, text=True)

    def installed(self) -> str:
        """What pip was asked for."""
        return self.log.read_text() if self.log.exists() else ""

    def has_venv(self) -> bool:
        return (self.checkout / ".venv").exists()


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.mark.parametrize("version", ["3.11", "3.12"])
def test_a_wheel_where_there_is_one(machine, version):
    """It comes before compiling, whichever Python is called `python3`; no compiler is needed."""
    machine.add_python("python3", "3.13")
    machine.add_python(f"python{version}", version)
    done = machine.set_up()
    assert done.returncode == 0, done.stderr
    assert f"{WHEEL}\n" in machine.installed() and "Cython" not in machine.installed()
    assert "compiled" not in done.stdout


@pytest.mark.parametrize(
    "version, system", [("3.13", X86), ("3.13", MAC), ("3.12", ARM), ("3.11", MAC)]
)
def test_source_elsewhere(machine, version, system):
    machine.add_python("python3", version, system)
    machine.add_command("g++")
    done = machine.set_up()
    assert done.returncode == 0, done.stderr
    assert f"no wheel for Python {version}.9 on this system and is compiled" in done.stdout
    *_, cython, fairseq, _ = machine.installed().splitlines()
    assert cython.endswith("Cython==3.1.8")
    assert fairseq.endswith(f"--no-deps --no-build-isolation {SOURCE}")


def test_done_once(machine):
    machine.add_python("python3.13", "3.13")
    machine.add_command("c++")
    machine.set_up()
    first = machine.installed()
    (machine.bin / "c++").unlink()  # needed no more
    done = machine.set_up()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.installed() == first != ""


def test_a_venv_without_python_is_made_anew(machine):
    machine.add_python("python3.12", "3.12")
    machine.set_up()
    (machine.checkout / ".venv/bin/python").unlink()
    assert machine.set_up().returncode == 0
    assert (machine.checkout / ".venv/bin/python").exists()


@pytest.mark.parametrize("compiler, headers", [(None, True), ("g++", False)])
def test_what_compiling_needs(machine, compiler, headers):
    machine.add_python("python3", "3.13", headers=headers)
    if compiler:
        machine.add_command(compiler)
    done = machine.set_up()
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert re.search("C[+][+] compiler and .*/Python.h are needed; install Python 3.12", line)
    assert not machine.has_venv() and not machine.installed()


@pytest.mark.parametrize("version", ["3.10", "3.14"])
@pytest.mark.parametrize(
    "uv, remedy", [(False, "install Python 3.12"), (True, "uv venv --seed --python 3.12 .venv")]
)
def test_no_fairseq_for_it(machine, version, uv, remedy):
    machine.add_python("python3", version)
    if uv:
        machine.add_command("uv")
    done = machine.set_up()
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert f"3.11, 3.12 or 3.13 is needed (found: Python {version}.9 as python3)" in line
    assert line.endswith(remedy)
    assert not machine.has_venv() and not machine.installed()


def test_no_python3(machine):
    assert "(found: nothing as python3)" in machine.set_up().stderr


def test_the_active_environment_is_checked_too(machine):
    machine.add_python("python3.12", "3.12")
    machine.add_python("python", "3.14")
    done = machine.set_up(active="/somewhere")
    assert done.returncode == 1
    assert f"(found: Python 3.14.9 as {machine.bin}/python); deactivate and" in done.stderr


def test_what_pip_makes_of_setup_py(monkeypatch):
    """The same fairseq as setup.sh's; none on 3.10, and 3.14 refused by its number."""
    given = {}
    monkeypatch.setattr(setuptools, "setup", given.update)
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    requirements = [Requirement(text) for text in given["install_requires"]]

    def fairseq_for(version: str, system: str, machine: str) -> list[str]:
        place = {"python_version": version, "sys_platform": system, "platform_machine": machine}
        wanted = [r for r in requirements if r.marker is None or r.marker.evaluate(place)]
        return [f"{r.name}{r.specifier}" for r in wanted if "fairseq" in r.name]

    assert fairseq_for("3.10", "linux", "x86_64") == []
    for version in ("3.11", "3.12"):
        assert fairseq_for(version, "linux", "x86_64") == [WHEEL]
        assert fairseq_for(version, "linux", "aarch64") == [SOURCE]
        assert fairseq_for(version, "darwin", "arm64") == [SOURCE]
        assert fairseq_for(version, "darwin", "x86_64") == [SOURCE]
    assert fairseq_for("3.13", "linux", "x86_64") == [SOURCE]
    assert fairseq_for("3.13", "darwin", "arm64") == [SOURCE]
    supported = SpecifierSet(given["python_requires"])
    assert "3.13.9" in supported and "3.14.0" not in supported
