"""What fairseq forgets or does not say when a run goes on, or has nothing left to train.

`compat/checkpoints/` calls these functions around fairseq's loading; those after it have the same
arguments, fairseq's CheckpointConfig, its trainer and what the checkpoint has beside weights.
"""

import logging
import textwrap
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, Optional

from fairseq.distributed import utils as distributed_utils
from fairseq.logging import metrics
from omegaconf import OmegaConf

from fairseq_electra.checkpoints.files import LAST, choose_checkpoint, remove_parts
from fairseq_electra.checkpoints.safe_loading import load_file
from fairseq_electra.compat.checkpoints.run_options import ORDER, list_changes
from fairseq_electra.compat.checkpoints.save_dir_lock import lock_save_dir
from fairseq_electra.process.state import process_state

logger = logging.getLogger(__name__)

# how fairseq begins what it says of a checkpoint of another model, criterion or optimizer
MISFITS = ("Cannot load model parameters", "Criterion does not match", "Optimizer does not match")
LONGEST = 400  # characters of the reason, which may be torch's list of tensors
PLACE = (
    ". What it has read of its epoch is counted in batches: until the end of the epoch some "
    "sentences are read twice and others not at all"
)


def agree(trainer, decide: Callable[[], Any]) -> Any:
    """What `decide()` gives on the first worker, on all of them; its ValueError on all, too."""
    answer = {"decided": None, "error": None}
    if trainer.data_parallel_rank == 0:
        try:
            answer["decided"] = decide()
        except ValueError as error:
            answer["error"] = str(error)
    if trainer.data_parallel_world_size > 1:
        group = trainer.data_parallel_process_group
        answer = distributed_utils.broadcast_object(answer, 0, group, dist_device=trainer.device)
    if answer["error"] is not None:
        raise ValueError(answer["error"])
    return answer["decided"]


def claim(cfg, trainer) -> None:
    """Keep other trainings out of the save-dir, and delete what a kill left half written there.

    Args:
        cfg: fairseq's CheckpointConfig; with --no-save nothing is done.

    Raises:
        ValueError: on all workers, if another training has it.
    """

    def claim_here() -> None:
        if distributed_utils.is_master(trainer.cfg.distributed_training):
            lock_save_dir(cfg.save_dir)
        remove_parts(cfg.save_dir)

    if not cfg.no_save:
        agree(trainer, claim_here)


def choose(cfg, trainer):
    """fairseq's CheckpointConfig with the checkpoint that all workers load.

    Raises:
        ValueError: on all workers, as `choose_checkpoint` does.
    """
    chosen = agree(trainer, lambda: choose_checkpoint(cfg, trainer.checkpoint_suffix))
    if chosen == cfg.restore_file:
        return cfg
    # a fine-tuning that has begun goes on too
    return OmegaConf.merge(cfg, {"restore_file": chosen, "finetune_from_model": None})


def find_chosen(cfg, suffix: str) -> Optional[Path]:
    """The checkpoint that fairseq loads; None if there is none.

    Args:
        cfg: fairseq's CheckpointConfig.
    """
    path = Path(cfg.restore_file.replace(".pt", suffix + ".pt"))
    if cfg.restore_file == LAST:
        path = Path(cfg.save_dir) / path
        if cfg.finetune_from_model is not None and not path.exists():
            path = Path(cfg.finetune_from_model)
    return path if path.is_file() else None


def read_chosen(path: Optional[Path]) -> Dict:
    """What is in it, tensors unread; empty if there is none."""
    return {} if path is None else load_file(path, mmap=zipfile.is_zipfile(path))


def warn_of_changes(cfg, trainer, extra_state) -> None:
    """Say, in the first worker's log, which options and data are not those of the checkpoint."""
    if trainer.data_parallel_rank != 0:
        return
    saved = read_chosen(find_chosen(cfg, trainer.checkpoint_suffix))
    changes = list_changes(saved.get("cfg"), trainer.cfg)
    if changes:
        lost = any(change.option in ORDER for change in changes)
        logger.warning(
            "this run goes on with other options than it had: %s%s",
            ", ".join(map(str, changes)),
            PLACE if lost and in_epoch(saved) else "",
        )
    if hasattr(trainer.task, "compare_data"):
        trainer.task.compare_data(saved.get("task_state", {}))


def in_epoch(saved: Dict) -> bool:
    return saved["extra_state"]["train_iterator"]["iterations_in_epoch"] > 0


def describe_misfit(error: Exception, cfg, trainer) -> Optional[str]:
    """What to say if `error` means that a checkpoint does not fit this run; None for others.

    The first worker also names the options that differ.

    Args:
        error: of fairseq's loading.
        cfg: fairseq's CheckpointConfig.
    """
    if not str(error).startswith(MISFITS):
        return None
    path = find_chosen(cfg, trainer.checkpoint_suffix)
    saved = read_chosen(path) if trainer.data_parallel_rank == 0 else {}
    # fairseq raises its own error while it handles the one that has the reason
    reason = str(error.__context__ or error).rstrip(".\n")
    reason = textwrap.shorten(reason, LONGEST, placeholder=" (and more)")
    parts = [f"the checkpoint {path} does not fit this run: {reason}"]
    changes = list_changes(saved.get("cfg"), trainer.cfg)
    if changes:
        parts.append(f"Options that differ: {', '.join(map(str, changes))}")
    if path is not None and path.parent == Path(cfg.save_dir):
        parts.append(
            "It is in this run's --save-dir: another training needs another one (with "
            "--finetune-from-model if it is to begin with these weights)"
        )
    return ". ".join(parts)


def resume_log_interval(cfg, trainer, extra_state) -> None:
    """Restore what was measured since the last line of the log, unless --reset-meters is given."""
    meters = extra_state.get("metrics", {})
    at_start = extra_state["train_iterator"]["iterations_in_epoch"] == 0
    if at_start and "train_inner" in meters and not cfg.reset_meters:
        metrics.load_state_dict({"train_inner": meters["train_inner"]})


def resume_schedule(cfg, trainer, extra_state) -> None:
    """Tell the schedule what it was to be told after a checkpoint at an epoch's end.

    Not with --reset-lr-scheduler, nor with --reset-dataloader, which begins with the first epoch.
    """
    place = extra_state["train_iterator"]
    is_kept = not (cfg.reset_lr_scheduler or cfg.reset_dataloader)
    if is_kept and place["iterations_in_epoch"] == 0:
        trainer.lr_step(place["epoch"] - 1, extra_state.get("val_loss"))


def resume_patience(cfg, trainer, extra_state) -> None:
    """Go on counting for --patience where the checkpoint was, unless --reset-meters is given."""
    if not cfg.reset_meters:
        process_state.patience.update(extra_state.get("early_stop", {}))


def stop_if_complete(cfg, trainer, extra_state) -> None:
    """Let fairseq train no update if all of --max-update were made, and say so."""
    updates, options = trainer.get_num_updates(), trainer.cfg.optimization
    if 0 < options.max_update <= updates:
        logger.info("the run has made its %d updates: nothing is left to train", updates)
        options.max_epoch = -1  # 0 means without end
