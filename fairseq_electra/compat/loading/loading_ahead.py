"""End fairseq's threads that load batches ahead (`--data-buffer-size`) when nobody waits for them.

`compat/loading/` calls these functions.
"""

import logging
import shutil
import sys
import time
from pathlib import Path

from fairseq_electra.process.state import warn_once

logger = logging.getLogger(__name__)

SHARED_MEMORY = Path("/dev/shm")
NEEDED_MIB = 16  # of it for each process, for the few batches that it has ready

LONGEST_STOP = 10.0  # seconds that the end of the program waits for a batch that is being made


def same_dataset(loader, other) -> bool:
    """Whether two loaders have one dataset, which fairseq has only when the first was left."""
    dataset = getattr(loader, "dataset", None)
    return dataset is not None and dataset is getattr(other, "dataset", None)


def stop_consumer(consumer) -> None:
    """Let the thread finish the batch that it is making, and no other."""
    consumer._max_len = 0
    waiting = consumer._queue
    with waiting.mutex:  # it may wait for room in a full queue
        waiting.maxsize = sys.maxsize
        waiting.not_full.notify_all()


def join_consumers(consumers) -> None:
    """Stop all threads and wait until they have ended, but not for ever; drop what they loaded.

    A batch of a loading process is an open file, which would stay until Python collects garbage.
    """
    deadline = time.monotonic() + LONGEST_STOP
    for consumer in list(consumers):
        stop_consumer(consumer)
    for consumer in list(consumers):
        consumer.join(max(0.0, deadline - time.monotonic()))
        if not consumer.is_alive():
            consumer._queue.queue.clear()


def check_shared_memory(processes: int) -> None:
    """Warn, once, if batches of so many loading processes may not fit the shared memory.

    A process that finds it full loses the batch, and the training waits for it for ever.
    """
    if processes > 0 and SHARED_MEMORY.is_dir():
        free = shutil.disk_usage(SHARED_MEMORY).free >> 20
        if free < NEEDED_MIB * processes:
            warn_once(
                logger,
                f"{SHARED_MEMORY} has {free} MiB free: the batches of --num-workers {processes} "
                "pass through it, and a training hangs where they do not fit. Enlarge it (docker "
                "run --shm-size 1g) or give --num-workers 0",
            )
