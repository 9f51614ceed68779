"""Commands that are run once each, in one folder, and go on where they were interrupted.

In: a folder, Stages. Out: FOLDER/done/NAME for each that ended well, FOLDER/logs/NAME.log with what
it printed, and a line in FOLDER/progress.log at its start and end.
"""

import fcntl
import os
import signal
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

from scripts.glue.run import explain_failure


class Stage(NamedTuple):
    """One command.

    Attributes:
        makes: what the command writes all at once, and refuses to write again; if it is there, a
            start that was killed before it could be noted has finished it.
    """

    name: str
    command: List[str]
    environment: Dict[str, str]
    makes: Optional[Path] = None


class Stages:
    """Runs stages in `folder`, from several threads if need be.

    Raises:
        ValueError: if another process, or one that such a process has left behind, works there.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.failed: List[str] = []
        self.running: List[subprocess.Popen] = []
        self.stopped = False
        for name in ("done", "logs"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        # what is started inherits the lock, so that nothing is trained twice after a kill -9
        self.lock = (folder / "lock").open("w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"{folder}: another run, or a command of one, works in it") from None

    def say(self, name: str, message: str) -> None:
        """A line for progress.log and stdout."""
        line = f"{datetime.now():%Y-%m-%d %H:%M:%S} | {name} | {message}"
        print(line, flush=True)
        with (self.folder / "progress.log").open("a", encoding="utf-8") as log:
            log.write(line + "\n")

    def run(self, stage: Stage) -> bool:
        """Run a stage unless it is done; whether it is now."""
        done = self.folder / "done" / stage.name
        if done.exists() or (stage.makes is not None and stage.makes.exists()):
            done.touch()
            self.say(stage.name, "done before")
            return True
        if self.stopped:
            return False
        log = self.folder / "logs" / f"{stage.name}.log"
        self.say(stage.name, f"started, see {log}")
        start, before = datetime.now(), log.stat().st_size if log.exists() else 0
        returncode = self.run_logged(stage, log)
        seconds = (datetime.now() - start).total_seconds()
        if returncode == 0:
            done.touch()
            self.say(stage.name, f"done in {seconds:.0f} s")
        elif not self.stopped:
            reason = explain_failure(log.read_bytes()[before:].decode("utf-8", "replace"))
            self.say(stage.name, f"failed after {seconds:.0f} s: {reason}")
            self.failed.append(stage.name)
        return returncode == 0

    def run_logged(self, stage: Stage, log: Path) -> int:
        """Exit status of a stage, whose output is added to `log`."""
        with log.open("a", encoding="utf-8") as output:
            process = subprocess.Popen(
                stage.command,
                env={**os.environ, **stage.environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=(self.lock.fileno(),),
            )
            self.running.append(process)
            return process.wait()

    def stop(self) -> None:
        """End what is running, and start nothing more."""
        self.stopped = True
        for process in self.running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
