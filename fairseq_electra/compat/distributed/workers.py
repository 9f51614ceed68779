"""What concerns a worker among several: meeting, its seed, what counts, the loss of another one.

`compat/distributed/` puts these functions into fairseq.
"""

import contextlib
import logging
import threading
from typing import Iterator, List, Optional

import torch
from torch.multiprocessing import ProcessExitedException

logger = logging.getLogger(__name__)

SEED_STRIDE = 1_000_003  # more than the updates of any run: no two workers share a seed
LONG_WAIT = 60.0  # seconds after which a worker says that it waits for the others
# what errors of torch name when another process does not answer
LOST = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")


@contextlib.contextmanager
def announce_waiting(cfg) -> Iterator[None]:
    """Say, once, that a worker still waits for the others to come.

    torch waits 30 minutes without a word (gloo; 10 with NCCL), also for one that ended long ago.

    Args:
        cfg: fairseq's whole configuration.
    """
    distributed = cfg.distributed_training
    timer = threading.Timer(
        LONG_WAIT,
        logger.warning,
        (
            "worker %s of %d has waited %.0f s for the others at %s. Have all been started, and "
            "has one ended with an error of its own (its log says why)? Then end the rest too",
            distributed.distributed_rank,
            distributed.distributed_world_size,
            LONG_WAIT,
            distributed.distributed_init_method,
        ),
    )
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def worker_seed(seed: int, update: int, rank: int) -> int:
    """The seed of an update's dropout: fairseq's on the first worker, another on each other."""
    return seed + update + SEED_STRIDE * rank


def drop_dummies(samples: List) -> List:
    """A worker's batches of one update, without the empty ones that fill up an epoch's last one."""
    return [sample for sample in samples if sample] or samples[:1]


class LostError(RuntimeError):
    """A worker, or a process that loads data, is gone; the message says which, and what to do."""


@contextlib.contextmanager
def explained(cfg) -> Iterator[None]:
    """Turn torch's errors about lost processes into LostError; others pass.

    Args:
        cfg: fairseq's whole configuration.
    """
    try:
        yield
    except LostError:
        raise
    except ProcessExitedException as error:
        raise LostError(describe_exit(error, cfg)) from error
    except (RuntimeError, ConnectionError) as error:
        message = describe_loader(error, cfg) or describe_loss(error, cfg)
        if message is None:
            raise
        raise LostError(message) from error


def describe_exit(error: ProcessExitedException, cfg) -> str:
    """What to say if a process that fairseq spawned has ended without an error of its own."""
    by_signal = f"was ended by {error.signal_name}"
    how = by_signal if error.signal_name else f"exited ({error.exit_code})"
    return (
        f"the worker on GPU {error.error_index} of this machine {how}, often for want of memory: "
        "the others were ended too. Start the same command again: it resumes from the last "
        f"checkpoint in --save-dir {cfg.checkpoint.save_dir}"
    )


def describe_loss(error: RuntimeError, cfg) -> Optional[str]:
    """What to say if `error` means that another worker is gone; None if it means something else.

    Args:
        cfg: fairseq's whole configuration.
    """
    distributed = cfg.distributed_training
    reason = str(error).strip().split("\n")[0]
    known = isinstance(error, torch.distributed.DistError) or any(word in reason for word in LOST)
    if distributed.distributed_world_size == 1 or not known:
        return None
    return (
        f"worker {distributed.distributed_rank} of {distributed.distributed_world_size} stops: "
        f"another worker died, or did not answer in time ({reason}). Its own log says why; if that "
        f"log just ends, the process was killed, often for want of memory. End what is left of the "
        f"run, and start the same command again on all workers: it resumes from the last "
        f"checkpoint in --save-dir {cfg.checkpoint.save_dir}"
    )


def describe_loader(error: Exception, cfg) -> Optional[str]:
    """What to say if `error` means that a process of --num-workers is gone; None if not.

    Args:
        cfg: fairseq's whole configuration.
    """
    # torch's message, or what its queue to the process says
    if "DataLoader worker" not in str(error) and not isinstance(error, ConnectionError):
        return None
    return (
        f"a process that loads data (--num-workers {cfg.dataset.num_workers}) ended "
        f"({str(error).strip().splitlines()[0]}): often killed for want of memory. Start the same "
        f"command again, with fewer of them if need be: it resumes from the last checkpoint in "
        f"--save-dir {cfg.checkpoint.save_dir}"
    )
