"""What the plugin changes in fairseq and numpy so that both run with today's torch: all of it here.

`apply()` is called once, when the package is imported. Each change says which version needs it and
what goes wrong without it; each has a test in tests/test_compat.py that fails without it.
"""

import argparse
import atexit
import queue
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

from fairseq.data import Dictionary, indexed_dataset, iterators
from fairseq.logging import progress_bar

from fairseq_electra.data.data_files import check_data

MAX_SHOWN_ELEMENTS = 8
LONGEST_STOP = 10.0  # seconds that the end of the program waits for a batch that is being made


def apply() -> None:
    """Make every change below; calling it again changes nothing."""
    allow_checkpoint_classes()
    restore_numpy_compat()
    shorten_logged_tensors()
    stop_loading_at_exit()
    check_data_files()
    name_dictionary_files()


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


def stop_loading_at_exit() -> None:
    """End fairseq's threads that load ahead (`--data-buffer-size`) before Python does.

    A run that stops inside an epoch, as with --max-update, leaves one. If it is in torch's code
    when Python ends, Python kills it there: "terminate called without an active exception", exit
    code 134 after a training that went well. Needed by every fairseq to date.
    """
    buffered = iterators.BufferedIterator
    original = buffered._create_consumer
    if getattr(original, "stops_at_exit", False):
        return
    consumers = weakref.WeakSet()

    def _create_consumer(self):
        original(self)
        consumers.add(self._consumer)

    _create_consumer.stops_at_exit = True
    buffered._create_consumer = _create_consumer
    atexit.register(stop_consumers, consumers)


def stop_consumers(consumers) -> None:
    """Let each thread finish the batch that it is making, and no other."""
    deadline = time.monotonic() + LONGEST_STOP
    for consumer in list(consumers):
        consumer._max_len = 0
        while consumer.is_alive() and time.monotonic() < deadline:
            try:
                consumer._queue.get(timeout=0.05)  # it may wait for room in a full queue
            except queue.Empty:
                continue


def check_data_files() -> None:
    """Check every split before it is read, also by fairseq's own tasks.

    Without it a damaged data-bin gives other tokens without a word, or an error that names no file
    (IndexError in the embedding). Needed by every fairseq to date.
    """
    original = indexed_dataset.make_dataset
    if getattr(original, "checks_files", False):
        return

    def make_dataset(path, impl, fix_lua_indexing=False, dictionary=None):
        if impl in ("mmap", "cached", "lazy"):  # an index without a known magic is "cached"
            check_data(path, dictionary)
        return original(path, impl, fix_lua_indexing, dictionary)

    make_dataset.checks_files = True
    indexed_dataset.make_dataset = make_dataset


def name_dictionary_files() -> None:
    """Name the file in errors about the lines of a dict.txt; needed by every fairseq to date."""
    original = Dictionary.add_from_file
    if getattr(original, "names_file", False):
        return

    def add_from_file(self, f):
        try:
            original(self, f)
        except (ValueError, RuntimeError) as error:
            if isinstance(f, str):
                raise ValueError(f"{f} is no dictionary of fairseq: {error}") from error
            raise

    add_from_file.names_file = True
    Dictionary.add_from_file = add_from_file


def describe_versions() -> str:
    """Python, torch and fairseq versions on one line, for logs and error messages."""
    return (
        f"Python {sys.version.split()[0]}, torch {torch.__version__}, fairseq {fairseq.__version__}"
    )
