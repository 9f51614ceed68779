"""Does this machine train ELECTRA right, and how fast? For a new GPU machine, within minutes.

Five steps, each a process of its own with a part of the time that is left, so that one that fails
or hangs costs the others nothing: the machine and its peaks; tests that need a GPU; training steps
of ELECTRA, Hugging Face's ELECTRA and fairseq's RoBERTa; a profile; fairseq-train itself. Writes
OUT/STEP.json and OUT/STEP.log as it goes, and a table (OUT/report.md) at the end.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List, NamedTuple

import torch

from fairseq_electra.new_folder import exit_on_signals
from scripts.gpu.report import write_report

ROOT = Path(__file__).resolve().parents[2]
LEAST_SECONDS = 5  # what a step gets at least
SHARES = {"machine": 1, "tests": 5, "speed": 7, "profile": 2, "training": 6}  # of the time


class Step(NamedTuple):
    """A command with its part of the time."""

    name: str
    command: List[str]
    share: float


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="check_gpu.sh",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--minutes", type=float, default=9, help="for all steps (default 9)")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DATA_BIN",
        help="text for fairseq-train (default: random words)",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/check_gpu"), metavar="DIR")
    parser.add_argument(
        "--device",
        choices=["cpu", "cuda"],
        default="cuda",
        help="cpu: the same steps at a tiny size, to try them (default: cuda)",
    )
    parser.add_argument("--steps", nargs="+", choices=SHARES, default=list(SHARES))
    args = parser.parse_args(argv)
    if args.device == "cuda" and not on_gpu:
        parser.error("torch sees no GPU here; --device cpu tries the steps without one")
    if args.minutes <= 0:
        parser.error("--minutes must be above 0")
    if args.data and not (args.data / "dict.txt").is_file():
        parser.error(
            f"--data {args.data}: no dict.txt there; fairseq-electra prepare-data makes it"
        )
    return args


def list_steps(args: argparse.Namespace) -> List[Step]:
    """The commands of the chosen steps."""
    common = ["--out", str(args.out), "--device", args.device]
    data = ["--data", str(args.data)] if args.data else []
    commands = {
        "machine": ["-m", "scripts.gpu.machine", *common],
        "tests": [
            *("-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "-vv", "-rfEs"),
            *("tests/models/test_gpu.py", "tests/optim"),
        ],
        "speed": ["-m", "scripts.gpu.speed", *common],
        "profile": ["-m", "scripts.gpu.profile_step", *common],
        "training": ["-m", "scripts.gpu.training", *common, *data],
    }
    return [Step(name, [sys.executable, *commands[name]], SHARES[name]) for name in args.steps]


def run_steps(steps: List[Step], seconds: float, out: Path, environment: Dict[str, str]) -> Dict:
    """Run them in turn; how each ended: "ok", "failed (status)" or "out of time".

    A step gets its share of the time that is left, so what one does not use goes to the next ones.
    """
    end = time.monotonic() + seconds
    states = {}
    for number, step in enumerate(steps):
        shares = sum(each.share for each in steps[number:])
        limit = max(LEAST_SECONDS, (end - time.monotonic()) * step.share / shares)
        print(f"{step.name}: at most {limit:.0f} s ...", flush=True)
        (out / f"{step.name}.json").unlink(missing_ok=True)  # of an earlier run
        start = time.monotonic()
        state = run_step(step, limit, out / f"{step.name}.log", environment)
        states[step.name] = {"state": state, "seconds": round(time.monotonic() - start, 1)}
        print(f"{step.name}: {state}, {states[step.name]['seconds']} s", flush=True)
        write_report(out, states)
    return states


def run_step(step: Step, limit: float, log: Path, environment: Dict[str, str]) -> str:
    """How it ended; what it printed is in `log`. At its limit its whole session is killed."""
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            step.command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            return "out of time"
        finally:  # after Ctrl-C or a kill too: it would go on on the GPU
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return "ok" if status == 0 else f"failed ({status})"


def main(argv=None) -> None:
    args = parse_args(argv)
    args.out = args.out.resolve()
    args.data = args.data and args.data.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "PYTHONUNBUFFERED": "1",  # a log has what was printed before its step was stopped
        "GPU_TESTS_DEVICE": args.device,
    }
    with exit_on_signals():
        states = run_steps(list_steps(args), 60 * args.minutes, args.out, environment)
    print((args.out / "report.md").read_text("utf-8"), end="")
    if any(state["state"] != "ok" for state in states.values()):
        sys.exit(1)
