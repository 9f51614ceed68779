"""A Python that is ready at once: it has fairseq imported, and forks a child for each command.

Importing torch and fairseq takes seconds, and the tests run Python some thousand times. They ask
this process for it: directly, by `tests/commands.py`, or by the stand-in for `python` that the
project's shell scripts find there (`python_client.py`).

A client sends a line of JSON (`argv` as Python's command line has it, `cwd`, `env`, `session`,
`end`) with its standard streams, and gets the child's pid. It may send signals, a number a line,
and gets the exit status at the end, negative if a signal ended it. The child is killed when its
client ends.

A child with a session of its own is one that a test may kill. All but those with `end` leave out
that Python takes all of torch and fairseq apart in the end, a second or two of nothing.
"""

import atexit
import gc
import importlib
import json
import os
import random
import runpy
import select
import signal
import socket
import sys
import threading
import traceback
import warnings
from contextlib import suppress
from pathlib import Path

import fairseq_cli.train  # noqa: F401 (first of fairseq: it sets the format of the log)
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from hydra._internal import config_repository
from hydra.core.override_parser.overrides_parser import OverridesParser

MODULES = ("fairseq_cli.preprocess", "torch._dynamo", "fairseq_electra")


def prepare_hydra() -> None:
    """Do once what hydra does in every fairseq-train, a third of the time of a tiny one.

    It reads some 270 options by a grammar that it learns as it goes, nearly all of them defaults;
    and it copies all registered configurations before it composes one, for whom composes more.
    """
    parse_anew = OverridesParser.parse_rule
    parsed = {}

    def parse_rule(self, text, rule):
        if (text, rule) not in parsed:
            parsed[text, rule] = parse_anew(self, text, rule)
        return parsed[text, rule]

    def share(self, delegate):
        self.delegate, self.cache = delegate, {}

    OverridesParser.parse_rule = parse_rule
    if hasattr(config_repository, "CachingConfigRepository"):  # not hydra 1.0, of fairseq 0.12.2
        config_repository.CachingConfigRepository.__init__ = share
    argv = "data --task electra --criterion electra --arch electra_tiny --optimizer electra_adam"
    argv += " --lr-scheduler electra_decay --lr 1e-3"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what hydra thinks of fairseq
        arguments = options.parse_args_and_arch(options.get_training_parser(), argv.split())
        convert_namespace_to_omegaconf(arguments)


def serve(listening: socket.socket) -> dict:
    """Answer until stdin is closed; returns in a child, with the request that it is to run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the tests as well
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
        client = listening.accept()[0]
        if os.fork() == 0:
            listening.close()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return keep(client)
        client.close()
    os._exit(0)


def keep(client: socket.socket) -> dict:
    """Return in a child that is to run the command; in the parent wait for its end."""
    request, streams = receive(client)
    child = os.fork()
    if child == 0:
        become(request, streams)
        client.close()
        return request
    for stream in streams:
        os.close(stream)
    end = os.pidfd_open(child)
    client.send(b"%d\n" % child)
    while end not in select.select([client, end], [], [])[0]:
        numbers = client.recv(100).split() or [signal.SIGKILL]  # the client has ended
        for number in map(int, numbers):
            os.kill(child, number)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(BrokenPipeError):
        client.send(b"%d\n" % status)
    os._exit(0)


def receive(client: socket.socket) -> tuple:
    """A request, and the three streams that came with it."""
    message, streams, _, _ = socket.recv_fds(client, 1 << 16, 3)
    while not message.endswith(b"\n"):
        message += client.recv(1 << 16)
    return json.loads(message), streams


def become(request: dict, streams: list) -> None:
    """Take over what a process has of its parent."""
    if request["session"]:
        os.setsid()  # a signal to its group reaches its loader workers too
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.executable = str(Path(os.environ["PYTHON_SERVER"]).parent / "bin" / "python")
    random.seed()  # or all would draw the same ports


def run(argv: list) -> None:
    """Run `-m MODULE`, `-c CODE` or a script as Python would, which then ends as it always does."""
    extra = os.environ.get("PYTHONPATH", "")
    sys.path[1:1] = [folder for folder in extra.split(os.pathsep) if folder]
    if argv[0] == "-c":
        sys.path[0], sys.argv = "", ["-c", *argv[2:]]
        exec(compile(argv[1], "<string>", "exec"), sys.modules["__main__"].__dict__)
    elif argv[0] != "-m":
        sys.path[0], sys.argv = str(Path(argv[0]).resolve().parent), argv
        runpy.run_path(argv[0], run_name="__main__")
    elif argv[1] in sys.modules and argv[1].startswith("fairseq_cli."):
        module = importlib.import_module(argv[1])
        sys.path[0], sys.argv = str(Path.cwd()), [module.__file__, *argv[2:]]
        module.cli_main()
    else:
        sys.path[0], sys.argv = str(Path.cwd()), argv[1:]
        warnings.filterwarnings("ignore", "'.*' found in sys.modules", RuntimeWarning)
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)


def run_to_end(argv: list) -> None:
    """`run`, and of Python's end its threads, its exit handlers and the status."""
    status = 0
    try:
        run(argv)
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if status and not isinstance(stop.code, int):
            print(stop.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    for name in MODULES:
        importlib.import_module(name)
    prepare_hydra()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"{sys.argv[1]}.new")
    listening.listen(64)
    gc.collect()
    gc.freeze()  # a child that collects garbage leaves the memory that it shares alone
    gc.set_threshold(50_000, 20, 100)  # usually 700, 10, 10: an eighth of a tiny training
    Path(f"{sys.argv[1]}.new").rename(sys.argv[1])  # clients wait for it
    request = serve(listening)
    (run if request["end"] else run_to_end)(request["argv"])
