"""A process that has fairseq imported and forks a child for each command it is given.

Importing torch and fairseq takes seconds, and the tests run hundreds of fairseq commands, so they
ask this process (see `tests/commands.py`) instead of starting Python each time. A request is a line
of JSON on stdin: {"module": a module with `cli_main`, "arguments": [...], "output": FILE}. The
child's pid is written to FILE.pid, what it prints to FILE, and its exit status to FILE.status.
"""

import importlib
import json
import os
import signal
import sys
from pathlib import Path


def serve() -> None:
    """Fork a keeper for every request, and return in the child of one, ready to run its command."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    for line in sys.stdin:
        request = json.loads(line)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return keep(request)
    sys.exit()


def keep(request: dict) -> None:
    """Return in a child that runs the command; in the parent wait for it and write its status."""
    child = os.fork()
    if child == 0:
        os.setsid()  # a signal to its group reaches its loader workers too
        return run(request)
    write_whole(request["output"] + ".pid", child)
    _, status = os.waitpid(child, 0)
    write_whole(request["output"] + ".status", os.waitstatus_to_exitcode(status))
    os._exit(0)


def write_whole(path: str, value: int) -> None:
    """Write a file that appears with its content."""
    part = Path(path + ".part")
    part.write_text(str(value))
    part.rename(path)


def run(request: dict) -> None:
    """Run the command as `python -m` would; Python then ends as it always does."""
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    module = importlib.import_module(request["module"])
    sys.argv = [module.__file__, *request["arguments"]]
    os.environ.update(request.get("environment", {}))
    module.cli_main()


if __name__ == "__main__":
    import fairseq_cli.train  # noqa: F401  (first: it sets the format of the log)

    import fairseq_electra  # noqa: F401 (so that commands find it imported)

    serve()
