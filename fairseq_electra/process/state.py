"""What a process remembers from one call to the next, all of it in one object: `process_state`.

A process that is forked (a loader worker) begins with what its parent knew, which is as true for
it; but not with its parent's locks, which are therefore kept by pid. One that is spawned (a worker
of fairseq's, one a GPU) begins with nothing. No checkpoint and no message has any of it.

Not in it: the changes of compat/, which are made once and for good, and memos of functions that
give the same for the same arguments.
"""

import logging
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any, Dict, Set, Tuple
from weakref import WeakKeyDictionary, WeakSet


@dataclass
class ProcessState:
    """What a process knows, holds and has said.

    Each field says, in its metadata, what it has, and which files of the package write and read it.
    """

    split_checksums: Dict[Path, int] = field(
        default_factory=dict,
        metadata={
            "what": "CRC-32 of .idx and .bin together, by the path of each split that was checked: "
            "a run compares its data with its checkpoint's and with other workers'",
            "written": "data/data_files.py",
            "read": "data/same_data.py",
        },
    )
    whole_files: Set[Tuple] = field(
        default_factory=set,
        metadata={
            "what": "checkpoints that were read and found whole, as `identify` has them: they are "
            "not read once more before they are loaded",
            "written": "checkpoints/files.py",
            "read": "checkpoints/files.py",
        },
    )
    save_dir_locks: Dict[Tuple[int, Path], int] = field(
        default_factory=dict,
        metadata={
            "what": "descriptors of the files that are locks, by pid and path; they stay open, as "
            "to close any descriptor of a file gives up its lock",
            "written": "compat/checkpoints/save_dir_lock.py",
            "read": "compat/checkpoints/save_dir_lock.py",
        },
    )
    in_training: Set[Tuple[str, str]] = field(
        default_factory=set,
        metadata={
            "what": "kind (model, task, criterion) and name of all that the run trains: it goes on "
            "from its own checkpoint, whatever it trains",
            "written": "compat/updates/__init__.py",
            "read": "checkpoints/safe_loading.py",
        },
    )
    looks_above: "WeakKeyDictionary[Any, int]" = field(
        default_factory=WeakKeyDictionary,
        metadata={
            "what": "looks in a row, up to the last one, at a loss that is far too high, by "
            "trainer: a few stop the run",
            "written": "compat/updates/divergence.py",
            "read": "compat/updates/divergence.py",
        },
    )
    loading_threads: "WeakSet[Thread]" = field(
        default_factory=WeakSet,
        metadata={
            "what": "fairseq's threads that load batches ahead: they are ended when nobody waits "
            "for them",
            "written": "compat/loading/__init__.py",
            "read": "compat/loading/__init__.py",
        },
    )
    warned: Set[str] = field(
        default_factory=set,
        metadata={
            "what": "warnings that were given, as they are given once (`warn_once`)",
            "written": "process/state.py",
            "read": "process/state.py",
        },
    )
    tokenizer: Any = field(
        default=None,
        metadata={
            "what": "of a process that encodes text, loaded when it starts",
            "written": "text/tokenize_text.py",
            "read": "text/tokenize_text.py",
        },
    )

    @property
    def patience(self) -> Dict[str, Any]:
        """What --patience has counted: `best` and `num_runs`, both missing before a validation.

        fairseq-train keeps it as attributes of a function of its own, in the module that was
        started as main or in the one that was imported; it writes and reads them there. So does
        compat/checkpoints/, to have them in checkpoints. Empty, and of no use, in other commands.
        """
        for name in ("__main__", "fairseq_cli.train"):
            function = getattr(sys.modules.get(name), "should_stop_early", None)
            if function is not None:
                return vars(function)
        return {}

    def reset(self) -> None:
        """Forget everything, as if the process had just started; its locks are given up.

        For tests. Threads that still run are kept: they must be ended before the process does.
        """
        for (process, _), file in self.save_dir_locks.items():
            if process == os.getpid():
                os.close(file)
        running = [thread for thread in self.loading_threads if thread.is_alive()]
        for name in ("best", "num_runs"):
            self.patience.pop(name, None)
        self.__init__()
        self.loading_threads.update(running)


process_state = ProcessState()


def warn_once(logger: logging.Logger, message: str) -> None:
    """Log a warning, unless this process has given it before."""
    if message not in process_state.warned:
        process_state.warned.add(message)
        logger.warning(message)
