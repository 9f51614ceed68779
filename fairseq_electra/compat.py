"""What the plugin changes in fairseq and numpy so that both run with today's torch: all of it here.

`apply()` is called once, when the package is imported. Each change says which version needs it and
what goes wrong without it; tests/test_changes.py takes each away and sees a test fail.
"""

import atexit
import os
import signal
import sys
import tarfile
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

from fairseq import checkpoint_utils, file_utils
from fairseq import utils as fairseq_utils
from fairseq.data import Dictionary, indexed_dataset, iterators
from fairseq.distributed import DistributedTimeoutWrapper
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager
from fairseq.logging import progress_bar
from fairseq.logging.meters import MetersDict
from fairseq.models.ema.ema import EMA
from fairseq.optim.amp_optimizer import AMPOptimizer
from fairseq.tasks import FairseqTask
from fairseq.trainer import Trainer
from omegaconf import OmegaConf
from torch.utils.data import DataLoader

from fairseq_electra import safe_loading, workers
from fairseq_electra.checkpoint_files import copy_whole, load_whole, write_whole
from fairseq_electra.data.data_files import check_data
from fairseq_electra.data.loading_ahead import check_shared_memory, join_consumers, same_dataset
from fairseq_electra.divergence import check_growth, describe_stop
from fairseq_electra.launch import check_not_separate, join_processes
from fairseq_electra.option_checks import check_options
from fairseq_electra.resuming import agree_on_checkpoint, resume_log_interval, stop_if_complete

MAX_SHOWN_ELEMENTS = 8


def allow_checkpoint_classes() -> None:
    """Let `torch.load(weights_only=True)`, the default since torch 2.6, read fairseq's checkpoints.

    They hold the model's arguments as an `argparse.Namespace`, and perhaps a metric as a numpy
    number. Both are allowed by name (safe_loading.py) instead of turning `weights_only` off, which
    would let any downloaded checkpoint run code.
    Needed by ve-fairseq 0.12.3; fairseq main loads with `weights_only=False`.
    """
    torch.serialization.add_safe_globals(safe_loading.ALLOWED)


def guard_checkpoints() -> None:
    """Make fairseq refuse checkpoints and archives that could run code, and say why.

    Without it TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1, or fairseq main, runs what is in a pickle; the
    options of a checkpoint reach eval() in fairseq's models; torch's message advises to turn the
    protection off; an archive writes outside its folder; a flipped bit is loaded, and a file
    without its end gives an error without a name. Needed by every fairseq to date.
    """
    checkpoint_utils.torch = Overlay(torch, load=load_whole)
    file_utils.tarfile = Overlay(tarfile, open=safe_loading.open_archive)


class Overlay:
    """A module with some of its names replaced, for one other module that uses it."""

    def __init__(self, module, **replaced):
        self._module = module
        vars(self).update(replaced)

    def __getattr__(self, name):
        return getattr(self._module, name)


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
        left = [c for c in consumers if c.is_alive() and same_dataset(c._source, self._iterable)]
        if left:
            join_consumers(left)
        original(self)
        consumers.add(self._consumer)

    _create_consumer.stops = True
    buffered._create_consumer = _create_consumer
    atexit.register(join_consumers, consumers)


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
    if getattr(original, "ends", False):
        return

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

    _get_iterator_for_epoch.ends = True
    epochs._get_iterator_for_epoch = _get_iterator_for_epoch
    Trainer.get_valid_iterator = get_valid_iterator_once


def load_epochs_anew() -> None:
    """Start a loader's processes anew in each epoch, unless the task has an option for that.

    fairseq keeps them, and those kept do not learn of the epoch: with --num-workers above 0, stock
    `masked_lm` repeats the masks of the first epoch.
    Needed by every fairseq to date.
    """
    original = FairseqTask.get_batch_iterator
    if getattr(original, "starts_anew", False):
        return

    def get_batch_iterator(self, *args, **kwargs):
        # getattr would keep this frame and the loader; tasks such as sentence_ranking have no cfg
        cfg = self.cfg if OmegaConf.is_config(self.cfg) else getattr(self.cfg, "__dict__", {})
        has_option = "reuse_dataloader" in cfg
        batches = original(self, *args, **kwargs)
        if not has_option:
            batches.reuse_dataloader = False
        return batches

    get_batch_iterator.starts_anew = True
    FairseqTask.get_batch_iterator = get_batch_iterator


def explain_divergence() -> None:
    """End a training that diverges with what happened and where to go on.

    Where gradients are not finite, fairseq's message names neither the update nor the loss nor a
    checkpoint, and with several workers it advises another --ddp-backend. A loss that grows and
    stays finite does not stop it. Needed by every fairseq to date.
    """
    original = Trainer.train_step
    if getattr(original, "explains", False):
        return

    def train_step(self, samples, raise_oom=False):
        logs = []
        hook = self.criterion.register_forward_hook(lambda *call: logs.append(call[-1][-1]))
        try:
            output = original(self, samples, raise_oom)
        except Exception as error:
            # fairseq runs the batches again to find the module, and that may fail in its own way
            stop = error if isinstance(error, FloatingPointError) else error.__context__
            if not isinstance(stop, FloatingPointError):
                raise
            message = describe_stop(self, logs[: len(samples)], stop)
            raise FloatingPointError(message) from error
        finally:
            hook.remove()
        check_growth(self)
        return output

    train_step.explains = True
    Trainer.train_step = train_step


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
        except Exception as error:  # of bytes that are no UTF-8 fairseq says just that
            if not isinstance(f, str) or isinstance(error, OSError):
                raise
            reason = " ".join(str(error).split())  # a line with its end
            raise ValueError(f"{f} is no dictionary of fairseq: {reason}") from error

    add_from_file.names_file = True
    Dictionary.add_from_file = add_from_file


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
    there, where checkpoint_last.pt or --restore-file is not. Two trainings in one save-dir write
    over each other's checkpoints (save_dir_lock.py). Needed by every fairseq to date.
    """
    original = checkpoint_utils.load_checkpoint
    if getattr(original, "checks_first", False):
        return

    def load_checkpoint(cfg, trainer, **passthrough_args):
        chosen = agree_on_checkpoint(cfg, trainer)
        if chosen != cfg.restore_file:  # a fine-tuning that has begun goes on too
            cfg = OmegaConf.merge(cfg, {"restore_file": chosen, "finetune_from_model": None})
        extra_state, epoch_itr = original(cfg, trainer, **passthrough_args)
        if trainer.get_num_updates() > 0 and not cfg.reset_meters:
            resume_log_interval(extra_state)
        stop_if_complete(trainer)
        return extra_state, epoch_itr

    load_checkpoint.checks_first = True
    checkpoint_utils.load_checkpoint = load_checkpoint


def broadcast_objects() -> None:
    """Send objects to the other workers by torch's own `broadcast_object_list`.

    fairseq reads them with torch.load, which since torch 2.6 refuses the configuration of a
    checkpoint: no run on several workers could be resumed. What is sent was loaded safely by the
    first worker. Needed by ve-fairseq 0.12.3; fairseq main loads with `weights_only=False`.
    """
    if getattr(distributed_utils._broadcast_object_slow, "by_torch", False):
        return

    def _broadcast_object_slow(obj, src_rank, group, dist_device):
        objects = [obj]
        torch.distributed.broadcast_object_list(objects, src_rank, group, dist_device)
        return objects[0]

    _broadcast_object_slow.by_torch = True
    distributed_utils._broadcast_object_slow = _broadcast_object_slow


def keep_place_with_other_workers() -> None:
    """Resume inside an epoch at the same sentences with another number of workers.

    fairseq saves how many batches each worker had, whatever their number: from one worker to two,
    as many as had been read would be left out; from two to one, half would be read again.
    Needed by every fairseq to date.
    """
    epochs = iterators.EpochBatchIterator
    save, load = epochs.state_dict, epochs.load_state_dict
    if getattr(save, "counts_workers", False):
        return

    def state_dict(self):
        return {**save(self), "num_shards": self.num_shards}

    def load_state_dict(self, state):
        read = state.get("iterations_in_epoch", 0) * state.get("num_shards", self.num_shards)
        load(self, {**state, "iterations_in_epoch": -(-read // self.num_shards)})

    state_dict.counts_workers = True
    epochs.state_dict, epochs.load_state_dict = state_dict, load_state_dict


def join_launched_processes() -> None:
    """Let processes of torchrun and srun train together, or say that they would not (launch.py).

    fairseq divides by the number of GPUs, also by none, and where it expects one worker it trains
    as many copies, all in one --save-dir, without a word. Needed by every fairseq to date.
    """
    original = distributed_utils.infer_init_method
    if getattr(original, "joins", False):
        return

    def infer_init_method(cfg, force_distributed=False):
        if cfg.distributed_init_method is None and not join_processes(cfg, os.environ):
            original(cfg, force_distributed)

    infer_init_method.joins = True
    distributed_utils.infer_init_method = infer_init_method


def check_options_first() -> None:
    """Refuse values of fairseq's options that it would end badly on (option_checks.py).

    `--required-batch-size-multiple 0` ends the process by a signal, `--batch-size 0` is no limit,
    `--update-freq 0` a ZeroDivisionError, half precision on the CPU an error about a TPU.
    Needed by every fairseq to date.
    """
    original = Trainer.__init__
    if getattr(original, "checks_options", False):
        return

    def __init__(self, cfg, *args, **kwargs):
        check_options(cfg, torch.cuda.is_available())
        original(self, cfg, *args, **kwargs)

    __init__.checks_options = True
    Trainer.__init__ = __init__


def refuse_separate_copies() -> None:
    """Refuse to train copies also where `join_launched_processes` comes too late.

    fairseq-hydra-train imports the plugin after it has looked for other workers.
    Needed by every fairseq to date.
    """
    original = Trainer.__init__
    if getattr(original, "refuses_copies", False):
        return

    def __init__(self, cfg, *args, **kwargs):
        check_not_separate(cfg.distributed_training, os.environ)
        original(self, cfg, *args, **kwargs)

    __init__.refuses_copies = True
    Trainer.__init__ = __init__


def explain_lost_workers() -> None:
    """Say which worker noticed that another one is gone, or a process that loads data, and advise.

    torch's errors name an address or a process. Needed by every fairseq to date.
    """
    original = distributed_utils.call_main
    if getattr(original, "explains", False):
        return

    def call_main(cfg, main, **kwargs):
        try:
            return original(cfg, main, **kwargs)
        except (RuntimeError, ConnectionError) as error:
            message = workers.describe_loader(error, cfg) or workers.describe_loss(error, cfg)
            if message is None:
                raise
            raise RuntimeError(message) from error

    call_main.explains = True
    distributed_utils.call_main = call_main


def meet_before_data() -> None:
    """Connect the workers before they read their data.

    fairseq makes the group in which they exchange when it has read it. A worker that fails until
    then, on a damaged file that it alone has, leaves the others waiting for torch's 30 minutes;
    connected, they notice at their next exchange. Needed by every fairseq to date.
    """
    original = distributed_utils.distributed_init
    if getattr(original, "meets", False):
        return

    def distributed_init(cfg):
        rank = original(cfg)
        distributed_utils.get_global_group()
        return rank

    distributed_init.meets = True
    distributed_utils.distributed_init = distributed_init


def vary_dropout_over_workers() -> None:
    """Let every worker drop other units; the first drops what it does without this.

    fairseq seeds all workers alike in every update, so that batches of one shape get one mask:
    the noise of N workers is that of one. Needed by every fairseq to date.
    """
    original = Trainer._set_seed
    if getattr(original, "varies", False):
        return

    def _set_seed(self):
        original(self)
        rank = self.data_parallel_rank
        if rank > 0:
            seed, update = self.cfg.common.seed, self.get_num_updates()
            fairseq_utils.set_torch_seed(workers.worker_seed(seed, update, rank))

    _set_seed.varies = True
    Trainer._set_seed = _set_seed


def count_last_update_right() -> None:
    """Count all of an epoch's last update where some workers have fewer batches (--update-freq).

    fairseq fills up with a batch that does not count. Where it is a worker's last, none of that
    worker's batches is counted, but their gradients are: the update is too large. With
    fully_sharded every batch takes part in the exchange, so it is left as it is there.
    Needed by every fairseq to date.
    """
    original = Trainer.train_step
    if getattr(original, "counts_right", False):
        return

    def train_step(self, samples, raise_oom=False):
        if not self.is_fsdp:
            samples = workers.drop_dummies(samples)
        return original(self, samples, raise_oom)

    train_step.counts_right = train_step.explains = True
    Trainer.train_step = train_step


def end_without_heartbeat() -> None:
    """Let --heartbeat-timeout end a worker that waits for another one.

    fairseq sends SIGINT, which Python sees only when torch has stopped waiting, up to 30 minutes
    later. SIGTERM ends the process at once. Needed by every fairseq to date.
    """
    original = DistributedTimeoutWrapper.__init__
    if getattr(original, "ends_at_once", False):
        return

    def __init__(self, module, timeout, signal=signal.SIGTERM):
        original(self, module, timeout, signal)

    __init__.ends_at_once = True
    DistributedTimeoutWrapper.__init__ = __init__


def average_numbers_only() -> None:
    """Let --store-ema copy integers, such as a dictionary's fingerprint, and average the rest.

    fairseq multiplies them too: torch says "result type Float can't be cast to Long".
    Needed by every fairseq to date.
    """
    original = EMA.__init__
    if getattr(original, "skips_integers", False):
        return

    def __init__(self, model, config, device=None, skip_keys=None):
        tensors = model.state_dict().items()
        integers = {name for name, tensor in tensors if not torch.is_floating_point(tensor)}
        original(self, model, config, device, integers | (skip_keys or set()))

    __init__.skips_integers = True
    EMA.__init__ = __init__


def read_device_once() -> None:
    """Read one number off the device in each update, instead of one for every metric.

    Whatever is read makes the CPU wait for the GPU. fairseq rounds all metrics after each update
    although it prints them every --log-interval, and looks at the gradients' norm again after the
    optimizer's step. What is left is its look before the step, which stops a run that diverges.
    Needed by every fairseq to date.
    """
    clip_grad_norm, reduce_and_log = Trainer.clip_grad_norm, Trainer._reduce_and_log_stats
    if getattr(clip_grad_norm, "reads_once", False):
        return

    def clip_grad_norm_on_cpu(self, *args, **kwargs):
        norm = clip_grad_norm(self, *args, **kwargs)
        return norm.cpu() if torch.is_tensor(norm) else norm

    def reduce_and_log_unread(self, logging_outputs, sample_size, grad_norm=None):
        if grad_norm is None:  # a validation, whose figures are read from another aggregate
            return reduce_and_log(self, logging_outputs, sample_size)
        read = MetersDict.get_smoothed_values
        MetersDict.get_smoothed_values = lambda meters: {}
        try:
            return reduce_and_log(self, logging_outputs, sample_size, grad_norm)
        finally:
            MetersDict.get_smoothed_values = read

    clip_grad_norm_on_cpu.reads_once = True
    Trainer.clip_grad_norm = clip_grad_norm_on_cpu
    Trainer._reduce_and_log_stats = reduce_and_log_unread


def unscale_once() -> None:
    """Divide the gradients of --amp by the loss scale once.

    torch remembers for each optimizer object whether it did. fairseq names the inner one when it
    clips and its wrapper when it steps, so gradients were divided again after clipping.
    Needed by every fairseq to date.
    """
    if getattr(AMPOptimizer.step, "names_the_inner", False):
        return

    def step(self):
        self.scaler.step(self.optimizer)
        self.scaler.update()

    step.names_the_inner = True
    AMPOptimizer.step = step


CHANGES = (
    allow_checkpoint_classes,
    guard_checkpoints,
    restore_numpy_compat,
    shorten_logged_tensors,
    stop_loading_ahead,
    end_loader_workers,
    load_epochs_anew,
    explain_divergence,
    check_data_files,
    name_dictionary_files,
    write_checkpoints_whole,
    check_checkpoints_first,
    broadcast_objects,
    keep_place_with_other_workers,
    join_launched_processes,
    check_options_first,
    refuse_separate_copies,  # around the one before: it is asked first
    explain_lost_workers,
    meet_before_data,
    end_without_heartbeat,
    vary_dropout_over_workers,
    count_last_update_right,
    average_numbers_only,
    read_device_once,
    unscale_once,
)


def apply() -> None:
    """Make every change above; calling it again changes nothing."""
    for change in CHANGES:
        change()


def describe_versions() -> str:
    """Python, torch and fairseq versions on one line, for logs and error messages."""
    return (
        f"Python {sys.version.split()[0]}, torch {torch.__version__}, fairseq {fairseq.__version__}"
    )
