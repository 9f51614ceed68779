"""Run a Python command in a process that python_server.py forks; used as `python` by scripts.

    PYTHON_SERVER=SOCKET python -IS python_client.py REAL_PYTHON [-m MODULE | -c CODE | FILE] ...

What the server cannot stand in for (other options of Python, another number of threads) is run by
REAL_PYTHON.
"""

import json
import os  # no pathlib: this starts in milliseconds
import signal
import socket
import sys


class Process:
    """A process of the server: its `pid`, how it ended."""

    def __init__(self, argv, streams=(0, 1, 2), env=None, cwd=None, session=False, end=False):
        """Start it.

        Args:
            argv: what stands behind `python` on a command line.
            streams: file descriptors of its standard streams.
            env: the whole environment; default this process's. `PYTHON_SERVER` is the socket.
            cwd: default this process's.
            session: in a session of its own, so that signals to the tests do not reach it.
            end: whether Python takes itself apart in the end, as it always does elsewhere.
        """
        env = dict(os.environ if env is None else env)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(env["PYTHON_SERVER"])
        cwd = cwd or os.getcwd()  # noqa: PTH109
        request = {"argv": argv, "env": env, "cwd": cwd, "session": session, "end": end}
        message = json.dumps(request).encode() + b"\n"
        sent = socket.send_fds(self._socket, [message], list(streams))
        self._socket.sendall(message[sent:])
        self._read = b""
        self.pid = int(self._next_line())
        self._status = None

    def _next_line(self) -> bytes:
        while b"\n" not in self._read:
            read = self._socket.recv(100)
            if not read:
                raise ConnectionError("the server of Python has ended")
            self._read += read
        line, _, self._read = self._read.partition(b"\n")
        return line

    def wait(self, timeout=None) -> int:
        """Its exit status, minus the signal if one ended it; TimeoutError after so many seconds."""
        if self._status is None:
            self._socket.settimeout(timeout)
            self._status = int(self._next_line())
            self._socket.close()
        return self._status

    def poll(self):
        """None while it runs, then its exit status."""
        try:
            return self.wait(0)
        except BlockingIOError:
            return None

    def send_signal(self, number) -> None:
        self._socket.sendall(b"%d\n" % number)


def main(real: str, argv: list) -> None:
    served = argv and (argv[0] in ("-m", "-c") or not argv[0].startswith("-"))
    if not served or os.environ.get("OMP_NUM_THREADS") != "1":
        os.execv(real, [real, *argv])
    process = Process(argv)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: process.send_signal(number))
    status = process.wait()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
