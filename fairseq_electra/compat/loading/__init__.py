"""Changes in how fairseq reads data and loads batches."""

import atexit
from types import SimpleNamespace

import numpy as np
import torch
from fairseq.data import Dictionary, indexed_dataset, iterators
from fairseq.tasks import FairseqTask
from fairseq.trainer import Trainer
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from fairseq_electra.compat.loading.loading_ahead import (
    check_shared_memory,
    join_consumers,
    same_dataset,
)
from fairseq_electra.data.data_files import check_data
from fairseq_electra.process.state import process_state


def restore_numpy_compat() -> None:
    """Give `--sample-break-mode eos` its `np.compat.long`, which numpy 2 removed.

    Needed by every fairseq to date (TokenBlockDataset) with numpy >= 2.
    """
    if not hasattr(np, "compat"):
        np.compat = SimpleNamespace(long=int)


def check_data_files() -> None:
    """Check every split before it is read, also by fairseq's own tasks.

    Without it a damaged data-bin gives other tokens without a word, or an error that names no file
    (IndexError in the embedding). Needed by every fairseq to date.
    """
    original = indexed_dataset.make_dataset

    def make_dataset(path, impl, fix_lua_indexing=False, dictionary=None):
        if impl in ("mmap", "cached", "lazy"):  # an index without a known magic is "cached"
            check_data(path, dictionary)
        return original(path, impl, fix_lua_indexing, dictionary)

    indexed_dataset.make_dataset = make_dataset


def name_dictionary_files() -> None:
    """Name the file in errors about the lines of a dict.txt; needed by every fairseq to date."""
    original = Dictionary.add_from_file

    def add_from_file(self, f):
        try:
            original(self, f)
        except Exception as error:  # of bytes that are no UTF-8 fairseq says just that
            if not isinstance(f, str) or isinstance(error, OSError):
                raise
            reason = " ".join(str(error).split())  # a line with its end
            raise ValueError(f"{f} is not a dictionary of fairseq: {reason}") from error

    Dictionary.add_from_file = add_from_file


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

    def _create_consumer(self):
        alive = [thread for thread in process_state.loading_threads if thread.is_alive()]
        left = [thread for thread in alive if same_dataset(thread._source, self._iterable)]
        if left:
            join_consumers(left)
        original(self)
        process_state.loading_threads.add(self._consumer)

    def join_all():
        join_consumers(process_state.loading_threads)

    buffered._create_consumer = _create_consumer
    atexit.register(join_all)


def end_loader_workers() -> None:
    """End the processes of `--num-workers` when they have loaded all, unless they load again.

    fairseq keeps them for the next epoch also where there is none: all validations but those whose
    iterator is cached, and tasks without `reuse_dataloader`. They then wait until Python collects
    garbage, which has lost the queue to them by then, so that torch waits 5 s for each: a
    validation, or an epoch, cost 10 s more at 2 workers, seen within the next checkpoint's time.
    Needed by every fairseq to date.
    """
    epochs = iterators.EpochBatchIterator
    original, get_valid_iterator = epochs._get_iterator_for_epoch, Trainer.get_valid_iterator

    def make_loader(*args, **kwargs):
        return DataLoader(*args, **kwargs | {"persistent_workers": False})

    def _get_iterator_for_epoch(self, *args, **kwargs):
        check_shared_memory(self.num_workers)
        keeps = getattr(self, "reuse_dataloader", False)
        torch.utils.data.DataLoader = DataLoader if keeps else make_loader
        try:
            return original(self, *args, **kwargs)
        finally:
            torch.utils.data.DataLoader = DataLoader

    def get_valid_iterator_once(self, *args, **kwargs):
        batches = get_valid_iterator(self, *args, **kwargs)
        if batches not in self.task.dataset_to_epoch_iter.values():
            batches.reuse_dataloader = False
        return batches

    epochs._get_iterator_for_epoch = _get_iterator_for_epoch
    Trainer.get_valid_iterator = get_valid_iterator_once


def load_epochs_anew() -> None:
    """Start a loader's processes anew in each epoch, unless the task has an option for that.

    fairseq keeps them, and those kept do not learn of the epoch: with --num-workers above 0, stock
    `masked_lm` repeats the masks of the first epoch.
    Needed by every fairseq to date.
    """
    original = FairseqTask.get_batch_iterator

    def get_batch_iterator(self, *args, **kwargs):
        # getattr would keep this frame and the loader; tasks such as sentence_ranking have no cfg
        cfg = self.cfg if OmegaConf.is_config(self.cfg) else getattr(self.cfg, "__dict__", {})
        has_option = "reuse_dataloader" in cfg
        batches = original(self, *args, **kwargs)
        if not has_option:
            batches.reuse_dataloader = False
        return batches

    FairseqTask.get_batch_iterator = get_batch_iterator
