"""Changes in how fairseq writes, finds and reads checkpoints."""

import tarfile

import torch
from fairseq import checkpoint_utils, file_utils
from fairseq.file_io import PathManager
from fairseq.trainer import Trainer
from omegaconf import OmegaConf

from fairseq_electra.checkpoints import safe_loading
from fairseq_electra.checkpoints.files import copy_whole, load_whole, write_whole
from fairseq_electra.compat.checkpoints.resuming import (
    agree_on_checkpoint,
    describe_misfit,
    find_chosen,
    read_chosen,
    resume_log_interval,
    resume_schedule,
    stop_if_complete,
    warn_of_changes,
)
from fairseq_electra.process.state import process_state


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
    On a full disk it tries three times in the same file. Needed by every fairseq to date.
    """
    save, copy_file = checkpoint_utils.torch_persistent_save, PathManager.copy

    def torch_persistent_save(obj, filename, async_write: bool = False):
        if async_write or not PathManager.supports_rename(filename):
            return save(obj, filename, async_write)
        return write_whole(obj, filename)

    def copy_checkpoint(src_path: str, dst_path: str, overwrite: bool = False):
        if not PathManager.supports_rename(dst_path):
            return copy_file(src_path, dst_path, overwrite)
        return copy_whole(src_path, dst_path)

    checkpoint_utils.torch_persistent_save = torch_persistent_save
    PathManager.copy = staticmethod(copy_checkpoint)


def check_checkpoints_first() -> None:
    """Refuse a damaged checkpoint, and find the newest one where checkpoint_last.pt is missing.

    torch loads a file with a flipped bit, and fairseq starts anew, over the checkpoints that are
    there, where checkpoint_last.pt or --restore-file is not. Two trainings in one save-dir write
    over each other's checkpoints (save_dir_lock.py). Whatever does not fit is said to be the
    architecture, and other options or data are taken without a word (run_options.py).
    Needed by every fairseq to date.
    """
    original = checkpoint_utils.load_checkpoint

    def load_checkpoint(cfg, trainer, **passthrough_args):
        chosen = agree_on_checkpoint(cfg, trainer)
        if chosen != cfg.restore_file:  # a fine-tuning that has begun goes on too
            cfg = OmegaConf.merge(cfg, {"restore_file": chosen, "finetune_from_model": None})
        first = trainer.data_parallel_rank == 0
        path = find_chosen(cfg, trainer.checkpoint_suffix)
        saved = read_chosen(path) if first else {}
        try:
            extra_state, epoch_itr = original(cfg, trainer, **passthrough_args)
        except Exception as error:
            message = describe_misfit(error, path, saved, trainer.cfg)
            if message is None:
                raise
            raise ValueError(message) from error
        if trainer.get_num_updates() > 0:
            if first:
                warn_of_changes(saved, trainer)
            if not (cfg.reset_lr_scheduler or cfg.reset_dataloader):
                resume_schedule(extra_state, trainer)
            if not cfg.reset_meters:
                resume_log_interval(extra_state)
                process_state.patience.update(extra_state.get("early_stop", {}))
        stop_if_complete(trainer)
        return extra_state, epoch_itr

    checkpoint_utils.load_checkpoint = load_checkpoint


def keep_patience() -> None:
    """Write into a checkpoint how many validations brought nothing (--patience), and the best.

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
