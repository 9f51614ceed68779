"""End fairseq's threads that load batches ahead (`--data-buffer-size`) when nobody waits for them.

`compat.stop_loading_ahead` calls these functions.
"""

import sys
import time

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
    """Stop all threads and wait until they have ended, but not for ever."""
    deadline = time.monotonic() + LONGEST_STOP
    for consumer in list(consumers):
        stop_consumer(consumer)
    for consumer in list(consumers):
        consumer.join(max(0.0, deadline - time.monotonic()))
