"""Run commands as a user does, each in a process of its own that is ready at once.

`start("fairseq_cli.train", ...)` returns while the command runs, so that a test can kill it;
`run(...)` waits for any command, `run_script(...)` for one of scripts/. Their Python processes
come from python_server.py.
"""

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

from python_client import Process
from tiny import ROOT

POLL = 0.01  # seconds


class Command:
    """A fairseq command that was started: its `pid`, what it printed, how it ended."""

    def __init__(self, argv: list, environment: dict, end: bool = False):
        handle, path = tempfile.mkstemp(dir=python_folder(), suffix=".txt")
        self._output = Path(path)
        with Path(os.devnull).open() as nothing:
            streams = (nothing.fileno(), handle, handle)
            self._process = Process(argv, streams, environment, str(ROOT), session=True, end=end)
        os.close(handle)
        self.pid = self._process.pid

    @property
    def output(self) -> str:
        """What it has printed on both streams so far."""
        return self._output.read_text(errors="replace")

    def poll(self):
        """None while it runs, then its exit status; minus the signal if one ended it."""
        return self._process.poll()

    def wait(self, timeout: float = 300) -> int:
        """Its exit status; the command is killed if that takes longer than `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except TimeoutError:
            self.send(signal.SIGKILL)
            raise TimeoutError(f"after {timeout} s: {self.output[-4000:]}") from None

    def send(self, number: signal.Signals, to_group: bool = False) -> None:
        """Send a signal to the process, or to it and its loader workers."""
        with contextlib.suppress(ProcessLookupError):  # it has ended
            (os.killpg if to_group else os.kill)(self.pid, number)


def wait_for(get, timeout: float):
    """What `get()` gives once that is not None."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        found = get()
        if found is not None:
            return found
        time.sleep(POLL)
    raise TimeoutError


def start(module: str, *arguments, end: bool = False, **environment) -> Command:
    """Start `python -m module arguments`; other keywords are environment variables.

    With `end` Python takes itself apart in the end, as it does outside of tests.
    """
    argv = ["-m", module, *map(str, arguments)]
    variables = {name: str(value) for name, value in environment.items()}
    return Command(argv, {**command_environment(), **variables}, end)


def start_server() -> None:
    """Start the server of Python for this process and those that it starts, its pytest workers.

    It is ready some seconds later; `python_folder` waits for it.
    """
    if "TEST_PYTHON" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="python-")
        os.environ["TEST_PYTHON"] = folder.name
        python = Path(folder.name) / "bin" / "python"
        python.parent.mkdir()
        client = Path(__file__).with_name("python_client.py")
        python.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {client} {sys.executable} "$@"\n')
        python.chmod(0o755)
        server = subprocess.Popen(
            [sys.executable, client.with_name("python_server.py"), f"{folder.name}/socket"],
            stdin=subprocess.PIPE,  # its end is the server's
            stdout=subprocess.PIPE,  # of a child too no file, in which Python would seek
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            cwd=ROOT,
        )
        atexit.register(folder.cleanup)
        atexit.register(server.kill)


def python_folder() -> Path:
    """A folder with `bin/python`, as an environment has it, whose commands the server runs."""
    start_server()
    folder = Path(os.environ["TEST_PYTHON"])
    wait_for(lambda: (folder / "socket").exists() or None, timeout=300)
    return folder


def command_environment(threads: int = 1) -> dict:
    """The environment that the project's commands run in, with the server's Python."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHON_SERVER": f"{python_folder()}/socket",
        "VIRTUAL_ENV": str(python_folder()),
    }


def run(*command, check=True, threads=1, timeout=300, **environment) -> SimpleNamespace:
    """Run a command as a user does; `output` is what it printed on both streams.

    Keywords that are no option are environment variables.
    """
    parts = [str(part) for part in command]
    if parts[0] == sys.executable:
        parts[0] = str(python_folder() / "bin" / "python")
    done = subprocess.run(
        parts,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**command_environment(threads), **environment},
        cwd=ROOT,
        timeout=timeout,
        check=False,
    )
    assert not check or done.returncode == 0, done.stdout[-4000:]
    return SimpleNamespace(returncode=done.returncode, output=done.stdout)


def run_script(name: str, *arguments, check=True, **environment) -> SimpleNamespace:
    """Run a script of scripts/ as a user does: what it printed is `output`."""
    return run(ROOT / "scripts" / name, *arguments, check=check, **environment)
