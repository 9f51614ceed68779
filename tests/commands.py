"""Run fairseq's commands as a user does, each in a process of its own that is ready at once.

`start("fairseq_cli.train", ...)` returns while the command runs, so that a test can kill it;
`run(...)` waits for any command. See command_server.py.
"""

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

from tiny import ROOT

SERVED = "fairseq_cli."
POLL = 0.01  # seconds


class Command:
    """A fairseq command that was started: its `pid`, what it printed, how it ended."""

    def __init__(self, output: Path):
        self._output = output
        self.pid = int(wait_for(lambda: read(f"{output}.pid"), 300))

    @property
    def output(self) -> str:
        """What it has printed on both streams so far."""
        return self._output.read_text(errors="replace") if self._output.exists() else ""

    def poll(self):
        """None while it runs, then its exit status; minus the signal if one ended it."""
        status = read(f"{self._output}.status")
        return None if status is None else int(status)

    def wait(self, timeout: float = 300) -> int:
        """Its exit status; the command is killed if that takes longer than `timeout` seconds."""
        try:
            return int(wait_for(lambda: read(f"{self._output}.status"), timeout))
        except TimeoutError:
            self.send(signal.SIGKILL)
            raise TimeoutError(f"after {timeout} s: {self.output[-4000:]}") from None

    def send(self, number: signal.Signals, to_group: bool = False) -> None:
        """Send a signal to the process, or to it and its loader workers."""
        with contextlib.suppress(ProcessLookupError):  # it has ended
            (os.killpg if to_group else os.kill)(self.pid, number)


def read(path: str):
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        return None


def wait_for(get, timeout: float):
    """What `get()` gives once that is not None."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        found = get()
        if found is not None:
            return found
        time.sleep(POLL)
    raise TimeoutError


def start(module: str, *arguments, **environment) -> Command:
    """Start `python -m module arguments`; keywords are environment variables."""
    handle, output = tempfile.mkstemp(dir=outputs(), suffix=".txt")
    os.close(handle)
    request = {
        "module": module,
        "arguments": [str(argument) for argument in arguments],
        "output": output,
        "environment": {key: str(value) for key, value in environment.items()},
    }
    server().stdin.write(json.dumps(request) + "\n")
    server().stdin.flush()
    return Command(Path(output))


def server(running=[]) -> subprocess.Popen:  # noqa: B006 (one a test process)
    """The server process, started at the first call."""
    if not running:
        script = Path(__file__).with_name("command_server.py")
        command = [sys.executable, script]
        environment = command_environment()
        running.append(
            subprocess.Popen(
                command, stdin=subprocess.PIPE, env=environment, cwd=ROOT, text=True, bufsize=1
            )
        )
        atexit.register(running[0].kill)
    return running[0]


def outputs(folder=[]) -> str:  # noqa: B006 (one a test process)
    """The folder of what commands print."""
    if not folder:
        folder.append(tempfile.TemporaryDirectory(prefix="commands-"))
    return folder[0].name


def command_environment(threads: int = 1) -> dict:
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}


def run(*command, check=True, threads=1, timeout=300) -> SimpleNamespace:
    """Run a command as a user does; `output` is what it printed on both streams."""
    parts = [str(part) for part in command]
    if parts[:2] == [sys.executable, "-m"] and parts[2].startswith(SERVED) and threads == 1:
        started = start(parts[2], *parts[3:])
        returncode, output = started.wait(timeout), started.output
    else:
        done = subprocess.run(
            parts,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=command_environment(threads),
            cwd=ROOT,
            timeout=timeout,
            check=False,
        )
        returncode, output = done.returncode, done.stdout
    assert not check or returncode == 0, output[-4000:]
    return SimpleNamespace(returncode=returncode, output=output)
