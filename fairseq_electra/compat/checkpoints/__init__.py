"""Changes in how fairseq writes, finds and reads checkpoints, and goes on from one."""

import logging
import tarfile
from typing import Callable

import torch
from fairseq import checkpoint_utils, file_utils
from fairseq import trainer as fairseq_trainer
from fairseq.file_io import PathManager
from fairseq.models.ema.ema import EMA
from fairseq.trainer import Trainer

from fairseq_electra.checkpoints import safe_loading
from fairseq_electra.checkpoints.files import copy_whole, load_whole, write_whole
from fairseq_electra.compat.checkpoints import resuming
from fairseq_electra.process.state import process_state

logger = logging.getLogger(__name__)


def allow_checkpoint_classes() -> None:
    """Let `torch.load(weights_only=True)`, the default since torch 2.6, read fairseq's checkpoints.

    They hold the model's arguments as an `argparse.Namespace`, and perhaps a metric as a numpy
    number. Both are allowed by name (fairseq_electra/checkpoints/safe_loading.py) instead of
    turning `weights_only` off, which would let any downloaded checkpoint run code.
    Needed by ve-fairseq 0.12.3; fairseq main loads with `weights_only=False`.
    """
    torch.serialization.add_safe_globals(safe_loading.ALLOWED)


class Overlay:
    """A module with some of its names replaced, for one other module that uses it."""

    def __init__(self, module, **replaced):
        self._module = module
        vars(self).update(replaced)

    def __getattr__(self, name):
        return getattr(self._module, name)


def guard_checkpoints() -> None:
    """Make fairseq refuse checkpoints and archives that could run code, and say why.

    Without it TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1, or fairseq main, runs what is in a pickle; the
    options of a checkpoint reach eval() in fairseq's models; torch's message advises to turn the
    protection off; an archive writes outside its folder; a flipped bit is loaded, and a file
    without its end gives an error without a name. Needed by every fairseq to date.
    """
    checkpoint_utils.torch = Overlay(torch, load=load_whole)
    file_utils.tarfile = Overlay(tarfile, open=safe_loading.open_archive)


def write_checkpoints_whole() -> None:
    """Let a checkpoint's file appear at once, under each of its names, or not at all.

    fairseq renames the first file when it is written, but copies it onto checkpoint_last.pt and
    checkpoint_best.pt byte by byte: a kill in between leaves half a file, and the former is gone.
    On a full disk it tries three times in the same file. Metrics that are arrays of numpy, as those
    of --eval-bleu, could not be loaded again. Needed by every fairseq to date.
    """
    save, copy_file = checkpoint_utils.torch_persistent_save, PathManager.copy

    def torch_persistent_save(obj, filename, async_write: bool = False):
        obj = safe_loading.without_arrays(obj)
        if async_write or not PathManager.supports_rename(filename):
            return save(obj, filename, async_write)
        return write_whole(obj, filename)

    def copy_checkpoint(src_path: str, dst_path: str, overwrite: bool = False):
        if not PathManager.supports_rename(dst_path):
            return copy_file(src_path, dst_path, overwrite)
        return copy_whole(src_path, dst_path)

    checkpoint_utils.torch_persistent_save = torch_persistent_save
    PathManager.copy = staticmethod(copy_checkpoint)


def when_resumed(act: Callable) -> None:
    """Call `act(cfg, trainer, extra_state)` when fairseq has loaded what a run goes on from.

    Of the arguments the first is fairseq's CheckpointConfig, the last what a checkpoint has beside
    weights and optimizer.
    """
    original = checkpoint_utils.load_checkpoint

    def load_checkpoint(cfg, trainer, **passthrough_args):
        extra_state, epoch_itr = original(cfg, trainer, **passthrough_args)
        if trainer.get_num_updates() > 0:
            act(cfg, trainer, extra_state)
        return extra_state, epoch_itr

    checkpoint_utils.load_checkpoint = load_checkpoint


def begin_averages_with_loaded() -> None:
    """Let the averages of --store-ema begin as the weights of a checkpoint that has none.

    fairseq would, but has deleted the weights when it reads them: "KeyError: 'model'". Without any
    it makes the averages of the model that was loaded. Needed by every fairseq to date.
    """
    restore = EMA.restore

    def load_checkpoint_to_cpu(*args, **kwargs):
        state = checkpoint_utils.load_checkpoint_to_cpu(*args, **kwargs)
        if state.get("extra_state") is not None:
            state["extra_state"].setdefault("ema", {})
        return state

    def restore_what_there_is(self, state_dict, build_fp32_params=False):
        if not state_dict:
            logger.info("the checkpoint has no averages (--store-ema): they begin as its weights")
            state_dict = self.model.state_dict()
        restore(self, state_dict, build_fp32_params)

    fairseq_trainer.checkpoint_utils = Overlay(
        checkpoint_utils, load_checkpoint_to_cpu=load_checkpoint_to_cpu
    )
    EMA.restore = restore_what_there_is


def explain_misfits() -> None:
    """Say why a checkpoint does not fit the run, and which options differ.

    fairseq says to "ensure that the architectures match", whatever the reason was.
    Needed by every fairseq to date.
    """
    original = checkpoint_utils.load_checkpoint

    def load_checkpoint(cfg, trainer, **passthrough_args):
        try:
            return original(cfg, trainer, **passthrough_args)
        except Exception as error:
            message = resuming.describe_misfit(error, cfg, trainer)
            if message is None:
                raise
            raise ValueError(message) from error

    checkpoint_utils.load_checkpoint = load_checkpoint


def name_other_options() -> None:
    """Warn where a run goes on with other options or data than its checkpoint's (run_options.py).

    fairseq takes them without a word. Needed by every fairseq to date.
    """
    when_resumed(resuming.warn_of_changes)


def tell_schedule() -> None:
    """Tell the schedule the validation loss of the epoch at whose end a checkpoint was saved.

    fairseq saves first and tells it then, so a run that goes on from that checkpoint has never told
    it; some schedules lower the rate by it. Needed by every fairseq to date.
    """
    when_resumed(resuming.resume_schedule)


def keep_log_interval() -> None:
    """Go on with what was measured since the last line of the log (--log-interval).

    fairseq drops all measures where it resumes at an epoch's beginning; but an interval of the log
    goes on over epochs. Needed by every fairseq to date.
    """
    when_resumed(resuming.resume_log_interval)


def keep_patience() -> None:
    """Go on counting how many validations brought nothing (--patience), from the best one.

    A run that is started again counts from 0 without it, and stops later than one that was not
    stopped. Needed by every fairseq to date.
    """
    original = Trainer.save_checkpoint

    def save_checkpoint(self, filename, extra_state):
        counted = dict(process_state.patience)
        if counted:
            extra_state = {**extra_state, "early_stop": counted}
        return original(self, filename, extra_state)

    Trainer.save_checkpoint = save_checkpoint
    when_resumed(resuming.resume_patience)


def end_complete_runs() -> None:
    """Train no further update when a run that has made all of --max-update is started again.

    fairseq looks only after an update, so it would make one more, and save it.
    Needed by every fairseq to date.
    """
    when_resumed(resuming.stop_if_complete)


def check_checkpoints_first() -> None:
    """Refuse a damaged checkpoint, and find the newest one where checkpoint_last.pt is missing.

    torch loads a file with a flipped bit, and fairseq starts anew, over the checkpoints that are
    there, where checkpoint_last.pt or --restore-file is not. Needed by every fairseq to date.
    """
    original = checkpoint_utils.load_checkpoint

    def load_checkpoint(cfg, trainer, **passthrough_args):
        return original(resuming.choose(cfg, trainer), trainer, **passthrough_args)

    checkpoint_utils.load_checkpoint = load_checkpoint


def claim_save_dir() -> None:
    """Refuse a second training in a save-dir (save_dir_lock.py).

    The two would write over each other's checkpoints. Needed by every fairseq to date.
    """
    original = checkpoint_utils.load_checkpoint

    def load_checkpoint(cfg, trainer, **passthrough_args):
        resuming.claim(cfg, trainer)
        return original(cfg, trainer, **passthrough_args)

    checkpoint_utils.load_checkpoint = load_checkpoint
