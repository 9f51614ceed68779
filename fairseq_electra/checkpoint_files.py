"""Checkpoint files are whole or not there; a damaged one is named, and the one before it offered.

fairseq writes one file and copies it to checkpoint_best.pt and checkpoint_last.pt; `compat.py` puts
`write_whole` and `copy_whole` in their place, and `choose_checkpoint` before its loading.
"""

import errno
import logging
import os
import pickle
import re
import shutil
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional

import torch

from fairseq_electra.safe_loading import RefusedCheckpointError, load_file

logger = logging.getLogger(__name__)

LAST = "checkpoint_last.pt"
# checkpoint_EPOCH_UPDATE, checkpointEPOCH, checkpoint_best, checkpoint.best_METRIC_VALUE
OTHERS = r"checkpoint(?:_\d+_\d+|\d+|_best|\.best_.+)"
PARTS = ("model", "extra_state", "optimizer_history")  # of a checkpoint that can be resumed
UNREADABLE = (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError)
COPY_BYTES = 2**24


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
    if reason.errno == errno.ENOSPC:
        free = shutil.disk_usage(target.parent).free / 2**20
        message += f" ({free:.0f} MiB are free)"
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
    """Rename, and write the folder's entry to the disk too."""
    part.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def find_damage(path: Path, parts=PARTS) -> Optional[str]:
    """What is wrong with a checkpoint file; None if it is whole. Reads it once (about 1 GB/s).

    torch writes a checksum of every tensor and does not compare them when it loads.

    Args:
        parts: what the checkpoint must have.
    """
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
    except (*UNREADABLE, NotImplementedError) as error:  # a flipped bit may ask for any zip feature
        return f"it cannot be read ({error})"


def find_foreign(path: Path, parts=PARTS) -> Optional[str]:
    """Why a file that is whole is no checkpoint of fairseq-train; None if it may be one."""
    zipped = zipfile.is_zipfile(path)
    try:
        content = load_file(path, mmap=zipped or None)
    except RefusedCheckpointError:
        return None  # said where it is loaded
    except pickle.UnpicklingError as error:
        return None if zipped else describe_unreadable(error)
    except (*UNREADABLE, KeyError) as error:
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
    others = (path for path in list_checkpoints(folder, suffix) if path != but)
    return next((path for path in others if find_damage(path) is None), None)


def choose_checkpoint(cfg, suffix: str) -> str:
    """The value of --restore-file that fairseq should load.

    Another one than was given only where checkpoint_last.pt is missing, as after a kill between
    the first checkpoint and its copy: then the newest whole one, with a warning. `cfg` is
    fairseq's CheckpointConfig.

    Raises:
        ValueError: if the file is damaged; the message has the newest whole one of its folder.
    """
    if cfg.restore_file != LAST:
        check_whole(Path(cfg.restore_file.replace(".pt", suffix + ".pt")), suffix)
        return cfg.restore_file
    last = Path(cfg.save_dir) / LAST.replace(".pt", suffix + ".pt")
    if last.exists():
        check_whole(last, suffix)
        return cfg.restore_file
    newest = newest_checkpoint(Path(cfg.save_dir), suffix)
    if newest is not None:
        logger.warning("no %s: going on from %s, the newest checkpoint there", last, newest)
        return str(newest.with_name(newest.name.replace(suffix + ".pt", ".pt")))
    if cfg.finetune_from_model is not None:
        check_whole(Path(cfg.finetune_from_model))
    return cfg.restore_file


def check_whole(path: Path, suffix: str = "") -> None:
    """Raise ValueError, with a way out, if a checkpoint is damaged; a missing one is fairseq's."""
    damage = find_damage(path) if path.exists() else None
    if damage is None:
        return
    message = f"the checkpoint {path} is damaged: {damage}. "
    other = newest_checkpoint(path.parent, suffix, but=path)
    if other is None:
        message += "No other whole checkpoint is in its folder"
    else:
        message += f"To go on from the one before, add this once: --restore-file {other}"
    logger.error(message)
    raise ValueError(message)


def remove_parts(save_dir: str) -> None:
    """Delete what a kill left of checkpoints that were being written."""
    for part in Path(save_dir).glob("checkpoint*.pt.tmp"):
        logger.warning("removing %s, which an earlier run did not finish", part)
        part.unlink()
