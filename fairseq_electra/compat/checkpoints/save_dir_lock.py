"""One training at a time in a save-dir: a second would write over the checkpoints of the first.

In: a save-dir. Out: a lock on its file training.lock that lasts as long as this process, however it
ends, or ValueError with the host and pid that have it.
"""

import errno
import fcntl
import logging
import os
import socket
from pathlib import Path

from fairseq_electra.process.state import process_state

logger = logging.getLogger(__name__)

NAME = "training.lock"
TAKEN = (errno.EACCES, errno.EAGAIN)
LONGEST = 500  # bytes of host and pid


def lock_save_dir(save_dir: str) -> None:
    """Lock a save-dir for this process, and write host and pid into the file.

    A POSIX lock, which a forked loader worker does not inherit: one that outlives a killed run
    does not keep the next from starting. The file stays when the run ends; it is then not locked.
    Where nothing can be locked, as on some network file systems, a warning says so.

    Raises:
        ValueError: if another process has it.
    """
    path = Path(save_dir).resolve() / NAME
    if (os.getpid(), path) in process_state.save_dir_locks:
        return
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        warn(path, error)
        return
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(file, LONGEST).decode(errors="replace").strip()
        os.close(file)
        if error.errno not in TAKEN:
            warn(path, error)
            return
        message = describe_holder(save_dir, holder)
        logger.error(message)
        raise ValueError(message) from None
    process_state.save_dir_locks[os.getpid(), path] = file
    write_holder(file, path)


def write_holder(file: int, path: Path) -> None:
    """Say in the file whose lock it is; on a full disk it is a lock all the same."""
    try:
        os.ftruncate(file, 0)
        os.write(file, f"host {socket.gethostname()}, pid {os.getpid()}\n".encode())
    except OSError as error:
        logger.warning("%s: host and pid could not be written (%s)", path, error.strerror)


def describe_holder(save_dir: str, holder: str) -> str:
    return (
        f"another training writes to --save-dir {save_dir}: {holder or 'host and pid unknown'}. "
        "Wait until it ends, or end it, or give another --save-dir"
    )


def warn(path: Path, error: OSError) -> None:
    logger.warning(
        "%s cannot be locked (%s): make sure that no other training writes there",
        path,
        error.strerror,
    )
