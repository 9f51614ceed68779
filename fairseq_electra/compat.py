"""What the plugin changes in fairseq and numpy so that both run with today's torch: all of it here.

`apply()` is called once, when the package is imported. Each change says which version needs it and
what goes wrong without it; each has a test in tests/test_compat.py that fails without it.
"""

import argparse
import atexit
import sys
import time
import weakref
from types import SimpleNamespace

import numpy as np
import torch

try:
    import fairseq
except ImportError as error:
    raise ImportError(
        "fairseq_electra needs fairseq: run scripts/setup.sh, or "
        "`pip install --no-deps ve-fairseq==0.12.3` on Python 3.11 and 3.12"
    ) from error

from fairseq import checkpoint_utils
from fairseq.data import iterators
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager
from fairseq.logging import progress_bar
from omegaconf import OmegaConf

from fairseq_electra.checkpoint_files import (
    choose_checkpoint,
    copy_whole,
    remove_parts,
    write_whole,
)

MAX_SHOWN_ELEMENTS = 8
LONGEST_STOP = 10.0  # seconds that the end of the program waits for a batch that is being made


def apply() -> None:
    """Make every change below; calling it again changes nothing."""
    allow_checkpoint_classes()
    restore_numpy_compat()
    shorten_logged_tensors()
    stop_loading_ahead()
    write_checkpoints_whole()
    check_checkpoints_first()


def allow_checkpoint_classes() -> None:
    """Let `torch.load(weights_only=True)`, the default since torch 2.6, read fairseq's checkpoints.

    They hold the model's arguments as an `argparse.Namespace`. It is allowed by name instead of
    turning `weights_only` off, which would let any downloaded checkpoint run code.
    Needed by ve-fairseq 0.12.3; fairseq main loads with `weights_only=False`.
    """
    torch.serialization.add_safe_globals([argparse.Namespace])


def restore_numpy_compat() -> None:
    """Give `--sample-break-mode eos` its `np.compat.long`, which numpy 2 removed.

    Needed by every fairseq to date (TokenBlockDataset) with numpy >= 2.
    """
    if not hasattr(np, "compat"):
        np.compat = SimpleNamespace(long=int)


def shorten_logged_tensors() -> None:
    """Print a long tensor in a progress bar as its shape.

    fairseq-validate prints every logging output of every batch, and the criterion's histogram
    (from which the AUC comes) has thousands of elements. No fairseq has a hook for it.
    """
    original = progress_bar.format_stat
    if getattr(original, "shortens_tensors", False):
        return

    def format_stat(stat):
        if torch.is_tensor(stat) and stat.numel() > MAX_SHOWN_ELEMENTS:
            return f"<{'x'.join(str(size) for size in stat.shape)}>"
        return original(stat)

    format_stat.shortens_tensors = True
    progress_bar.format_stat = format_stat


def stop_loading_ahead() -> None:
    """End fairseq's threads that load ahead (`--data-buffer-size`) when nobody waits for them.

    A loop that is left early leaves one, with its loader workers and what they have loaded. After a
    training that stops inside an epoch (--max-update), it may be in torch's code when Python ends,
    and Python kills it there: "terminate called without an active exception", exit code 134 after
    a run that went well. After a validation that stops early (--max-valid-steps) it waits for ever:
    at 2 workers, each validation kept 2 more processes. Needed by every fairseq to date.
    """
    buffered = iterators.BufferedIterator
    original = buffered._create_consumer
    if getattr(original, "stops", False):
        return
    consumers = weakref.WeakSet()

    def _create_consumer(self):
        original(self)
        consumers.add(self._consumer)
        weakref.finalize(self, stop_consumer, self._consumer).atexit = False

    _create_consumer.stops = True
    buffered._create_consumer = _create_consumer
    atexit.register(join_consumers, consumers)


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


def write_checkpoints_whole() -> None:
    """Let a checkpoint's file appear at once, under each of its names, or not at all.

    fairseq renames the first file when it is written, but copies it onto checkpoint_last.pt and
    checkpoint_best.pt byte by byte: a kill in between leaves half a file, and the former is gone.
    On a full disk it tries three times in the same file. Needed by every fairseq to date.
    """
    save, copy_file = checkpoint_utils.torch_persistent_save, PathManager.copy
    if getattr(save, "writes_whole", False):
        return

    def torch_persistent_save(obj, filename, async_write: bool = False):
        if async_write or not PathManager.supports_rename(filename):
            return save(obj, filename, async_write)
        return write_whole(obj, filename)

    def copy_checkpoint(src_path: str, dst_path: str, overwrite: bool = False):
        if not PathManager.supports_rename(dst_path):
            return copy_file(src_path, dst_path, overwrite)
        return copy_whole(src_path, dst_path)

    torch_persistent_save.writes_whole = True
    checkpoint_utils.torch_persistent_save = torch_persistent_save
    PathManager.copy = staticmethod(copy_checkpoint)


def check_checkpoints_first() -> None:
    """Refuse a damaged checkpoint, and find the newest one where checkpoint_last.pt is missing.

    torch loads a file with a flipped bit, and fairseq starts anew, over the checkpoints that are
    there, where checkpoint_last.pt is not. Needed by every fairseq to date.
    """
    original = checkpoint_utils.load_checkpoint
    if getattr(original, "checks_first", False):
        return

    def load_checkpoint(cfg, trainer, **passthrough_args):
        chosen = agree_on_checkpoint(cfg, trainer)
        if chosen != cfg.restore_file:  # a fine-tuning that has begun goes on too
            cfg = OmegaConf.merge(cfg, {"restore_file": chosen, "finetune_from_model": None})
        return original(cfg, trainer, **passthrough_args)

    load_checkpoint.checks_first = True
    checkpoint_utils.load_checkpoint = load_checkpoint


def agree_on_checkpoint(cfg, trainer) -> str:
    """The choice of the first worker, which all must load; ValueError on all if it has none."""
    answer = {"chosen": None, "error": None}
    if trainer.data_parallel_rank == 0:
        remove_parts(cfg.save_dir)
        try:
            answer["chosen"] = choose_checkpoint(cfg, trainer.checkpoint_suffix)
        except ValueError as error:
            answer["error"] = str(error)
    if trainer.data_parallel_world_size > 1:
        group = trainer.data_parallel_process_group
        answer = distributed_utils.broadcast_object(answer, 0, group, dist_device=trainer.device)
    if answer["error"] is not None:
        raise ValueError(answer["error"])
    return answer["chosen"]


def describe_versions() -> str:
    """Python, torch and fairseq versions on one line, for logs and error messages."""
    return (
        f"Python {sys.version.split()[0]}, torch {torch.__version__}, fairseq {fairseq.__version__}"
    )
