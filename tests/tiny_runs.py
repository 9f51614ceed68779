"""Whole tiny pre-trainings that can be killed, of one process or of several over gloo."""

import socket
from pathlib import Path

from commands import start
from tiny import TINY_OPTIONS, USER_DIR

LONGEST = 600  # seconds that a tiny run, or the end of its workers, may take


def run_options(data, save_dir, *options) -> tuple:
    """A tiny pre-training as `commands.start` takes it."""
    return (
        *("fairseq_cli.train", data, "--user-dir", USER_DIR, "--cpu", "--save-dir", save_dir),
        *("--task", "electra", "--criterion", "electra", "--arch", "electra_tiny", *TINY_OPTIONS),
        *("--optimizer", "electra_adam", "--lr-scheduler", "electra_decay", "--lr", "1e-3"),
        *("--warmup-updates", 2, "--max-update", 26, "--clip-norm", 1.0, "--num-workers", 0),
        *("--tokens-per-sample", 32, "--batch-size", 8, "--log-format", "json"),
        *("--log-interval", 5, *options),
    )


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def launch(data, save_dir, options, workers=1, end=False) -> list:
    """Start the command of a run: one process, or as many as `workers` over gloo.

    `data`: a data-bin, or a list of one for each worker. `end`: see `start`.
    """
    if workers == 1:
        return [start(*run_options(data, save_dir, *options), end=end)]
    sources = data if isinstance(data, list) else [data] * workers
    distributed = ("--distributed-world-size", workers)
    distributed += ("--distributed-init-method", f"tcp://127.0.0.1:{free_port()}")
    distributed += ("--distributed-no-spawn", "--distributed-backend", "gloo")
    distributed += ("--ddp-backend", "legacy_ddp")
    return [
        start(
            *run_options(source, save_dir, *options),
            *(*distributed, "--distributed-rank", rank),
            end=end,
        )
        for rank, source in enumerate(sources)
    ]


def finish(commands) -> str:
    """Wait until all have ended well; what the first printed."""
    assert [command.wait(LONGEST) for command in commands] == [0] * len(commands), "\n".join(
        command.output[-3000:] for command in commands
    )
    return commands[0].output


def list_children(pid: int) -> list:
    paths = Path(f"/proc/{pid}/task").glob("*/children")  # the thread that loads ahead starts them
    return [int(child) for path in paths for child in path.read_text().split()]
