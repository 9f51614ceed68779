"""Checkpoint files are whole or not there; a damaged one is named, and the one before it offered.

fairseq writes one file and copies it to checkpoint_best.pt and checkpoint_last.pt;
`compat/checkpoints/` puts `write_whole` and `copy_whole` in their place, and `choose_checkpoint`
before its loading.
"""

import errno
import logging
import lzma
import os
import pickle
import re
import shutil
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, NoReturn, Optional, Tuple

import torch
from fairseq.file_io import PathManager

from fairseq_electra.checkpoints.safe_loading import (
    LOAD_ERRORS,
    RefusedCheckpointError,
    load_checkpoint,
    load_file,
)
from fairseq_electra.process.state import process_state

logger = logging.getLogger(__name__)

LAST = "checkpoint_last.pt"
# checkpoint_EPOCH_UPDATE, checkpointEPOCH, checkpoint_best, checkpoint.best_METRIC_VALUE
OTHERS = r"checkpoint(?:_\d+_\d+|\d+|_best|\.best_.+)"
PARTS = ("model", "extra_state", "optimizer_history")  # of a checkpoint that can be resumed
# What `zipfile` raises at a damaged one: a flipped bit may ask for any feature of the format.
ZIP_ERRORS = (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError)
ZIP_ERRORS += (zlib.error, lzma.LZMAError)  # torch compresses nothing
COPY_BYTES = 2**24
NO_FSYNC = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)  # of a folder, on some network mounts


class RecordingFile:
    """A file for torch.save that remembers why a write failed; torch says "unexpected pos"."""

    def __init__(self, file):
        self.file = file
        self.failure: Optional[OSError] = None

    def write(self, data) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.failure = error
            raise

    def flush(self) -> None:
        self.file.flush()


def write_whole(content, filename: str) -> None:
    """torch.save to a file that appears, or replaces the one of its name, when all is on the disk.

    Raises:
        OSError: if it cannot be written, as on a full disk. The former file is as it was, what was
            written of the new one is gone, and the message names both and the reason.
    """
    with new_file(Path(filename)) as file:
        torch.save(content, file)


def copy_whole(source: str, target: str) -> str:
    """Copy a file as `write_whole` writes one; returns `target`.

    No hard link: `cp checkpoint_1_100.pt checkpoint_last.pt`, as users do to go back, would write
    through it into another checkpoint.
    """
    with Path(source).open("rb") as file, new_file(Path(target)) as copy:
        shutil.copyfileobj(file, copy, COPY_BYTES)
    return target


@contextmanager
def new_file(target: Path) -> Iterator[RecordingFile]:
    """Yield a file that becomes `target` at the end of the block; OSError as in `write_whole`."""
    part = target.with_name(target.name + ".tmp")
    recording = None
    try:
        with part.open("wb") as file:
            recording = RecordingFile(file)
            yield recording
            file.flush()
            os.fsync(file.fileno())
        replace(part, target)
    except (OSError, RuntimeError) as error:
        part.unlink(missing_ok=True)
        reason = (recording and recording.failure) or error
        if not isinstance(reason, OSError):
            raise
        raise OSError(reason.errno, describe_failure(reason, target)) from error


def describe_failure(reason: OSError, target: Path) -> str:
    """Why `target` was not written, and what a run can go on from."""
    message = f"the checkpoint {target} could not be written: {reason.strerror or reason}"
    last = target.with_name(LAST)
    newest = last if last.exists() else newest_checkpoint(target.parent)
    if newest is None:
        message += ". No earlier checkpoint is there"
    else:
        message += (
            f". The last good one is {newest}; when the cause is gone, the same command resumes"
        )
    logger.error(message)
    return message


def replace(part: Path, target: Path) -> None:
    """Rename, and write the folder's entry to the disk too, where the file system can."""
    part.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in NO_FSYNC:
            raise
    finally:
        os.close(folder)


def find_damage(path: Path, parts=PARTS) -> Optional[str]:
    """What is wrong with a checkpoint file; None if it is whole. Reads it once (about 1 GB/s).

    torch writes a checksum of every tensor and does not compare them when it loads.

    Args:
        parts: what the checkpoint must have.
    """
    damage = look_for_damage(path, parts)
    if damage is None:
        process_state.whole_files.add(identify(path))
    return damage


def look_for_damage(path: Path, parts) -> Optional[str]:
    """`find_damage` without remembering."""
    if path.is_dir():
        return "it is a folder"
    try:
        with path.open("rb") as file:
            head = file.read(2)
        if not head:
            return "it is empty"
        if not zipfile.is_zipfile(path):
            # torch's format from before 1.6 is a bare pickle or tar, and has no checksums
            return "its end is missing" if head == b"PK" else find_foreign(path, parts)
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        return find_foreign(path, parts) if broken is None else f"the checksum of {broken} is wrong"
    except ZIP_ERRORS as error:
        return f"it cannot be read ({error})"


def identify(path: Path) -> Tuple:
    """What changes when a file is written again."""
    state = path.stat()
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def load_whole(file, map_location="cpu", **options) -> Dict[str, Any]:
    """`load_checkpoint` of a file whose checksums this process has compared, now or before.

    Args:
        file: a path or an open file.

    Raises:
        ValueError: if it is damaged; RefusedCheckpointError as in `load_checkpoint`.
    """
    name = getattr(file, "name", file)
    if isinstance(name, (str, os.PathLike)) and Path(name).is_file():
        known = identify(Path(name)) in process_state.whole_files
        damage = None if known else find_damage(Path(name), parts=["model"])
        if damage is not None:
            raise ValueError(f"the checkpoint {name} is damaged: {damage}")
    return load_checkpoint(file, map_location, **options)


def find_foreign(path: Path, parts=PARTS) -> Optional[str]:
    """Why a file that is whole is no checkpoint of fairseq-train; None if it may be one."""
    zipped = zipfile.is_zipfile(path)
    try:
        content = load_file(path, mmap=zipped or None)
    except RefusedCheckpointError:
        return None  # said where it is loaded
    except pickle.UnpicklingError as error:
        return None if zipped else describe_unreadable(error)
    except LOAD_ERRORS as error:
        return describe_unreadable(error)
    missing = [part for part in parts if not isinstance(content, dict) or part not in content]
    return f"it has no {' and no '.join(missing)}: not fairseq-train's" if missing else None


def describe_unreadable(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):
        return "torch cannot read it"  # what it says advises to turn its protection off
    return f"torch cannot read it ({str(error).strip().splitlines()[0][:100]})"


def list_checkpoints(folder: Path, suffix: str = "") -> list:
    """The checkpoints of a save-dir other than checkpoint_last.pt, the last written one first.

    By time and not by number: a run that was sent back to an older one leaves higher numbers.
    """
    pattern = re.compile(OTHERS + re.escape(suffix) + r"\.pt")
    found = [path for path in folder.glob("*.pt") if pattern.fullmatch(path.name)]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def newest_checkpoint(folder: Path, suffix: str = "", but: Optional[Path] = None) -> Optional[Path]:
    """The newest whole one of `list_checkpoints` other than `but`, or None."""
    return find_newest(folder, suffix, but)[0]


def find_newest(
    folder: Path, suffix: str = "", but: Optional[Path] = None
) -> Tuple[Optional[Path], List[str]]:
    """`newest_checkpoint`, and the damaged ones that are newer, each with what is wrong."""
    damaged = []
    for path in list_checkpoints(folder, suffix):
        damage = None if path == but else find_damage(path)
        if damage is not None:
            damaged.append(f"{path} ({damage})")
        elif path != but:
            return path, damaged
    return None, damaged


def choose_checkpoint(cfg, suffix: str) -> str:
    """The value of --restore-file that fairseq should load.

    Another one than was given only where checkpoint_last.pt is missing, as after a kill between
    the first checkpoint and its copy: then the newest whole one, with a warning. `cfg` is
    fairseq's CheckpointConfig.

    Raises:
        ValueError: if the file is damaged, or was named and is missing: the message has the newest
            whole one. Also if checkpoints are there, all damaged: a new run would replace them.
    """
    last = Path(cfg.save_dir) / LAST.replace(".pt", suffix + ".pt")
    if cfg.restore_file != LAST:
        given = cfg.restore_file.replace(".pt", suffix + ".pt")
        if not PathManager.exists(given):
            refuse(describe_missing(given, last, suffix))
        check_whole(Path(given), suffix)
        return cfg.restore_file
    if last.exists():
        check_whole(last, suffix)
        return cfg.restore_file
    newest, damaged = find_newest(Path(cfg.save_dir), suffix)
    if newest is not None:
        message = f"no {last}: going on from {newest}, the newest whole checkpoint there"
        logger.warning("; ".join([message, *(f"damaged: {other}" for other in damaged)]))
        return str(newest.with_name(newest.name.replace(suffix + ".pt", ".pt")))
    if damaged:
        refuse(
            f"no checkpoint in {cfg.save_dir} is whole: {', '.join(damaged)}. A new run would "
            "write over them: to begin anew give another --save-dir"
        )
    if cfg.finetune_from_model is not None:
        check_whole(Path(cfg.finetune_from_model))
    return cfg.restore_file


def describe_missing(given: str, last: Path, suffix: str) -> str:
    """Why --restore-file is refused, and what there is instead; `last` is the save-dir's."""
    message = f"--restore-file {given} does not exist. "
    if last.exists() and find_damage(last) is None:
        return message + f"Without this option the run goes on from {last}"
    newest = newest_checkpoint(last.parent, suffix)
    if newest is not None:
        return message + f"The newest whole one of {last.parent}: --restore-file {newest}"
    return message + f"{last.parent} has no whole checkpoint either"


def refuse(message: str) -> NoReturn:
    """Log an error and raise it; the other workers raise it too."""
    logger.error(message)
    raise ValueError(message)


def check_whole(path: Path, suffix: str = "") -> None:
    """Raise ValueError, with a way out, if a checkpoint is damaged; a missing one is not."""
    damage = find_damage(path) if path.exists() else None
    if damage is None:
        return
    message = f"the checkpoint {path} is damaged: {damage}. "
    other = newest_checkpoint(path.parent, suffix, but=path)
    if other is None:
        message += "No other whole checkpoint is in its folder"
    else:
        message += f"To go on from the one before, add this once: --restore-file {other}"
    refuse(message)


def remove_parts(save_dir: str) -> None:
    """Delete what a kill left of checkpoints that were being written."""
    for part in Path(save_dir).glob("checkpoint*.pt.tmp"):
        logger.warning("removing %s, which an earlier run did not finish", part)
        part.unlink()
