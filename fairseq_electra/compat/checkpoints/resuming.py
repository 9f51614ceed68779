"""What fairseq forgets or does not say when a run goes on, or has nothing left to train.

`compat/checkpoints/` calls these functions around fairseq's loading.
"""

import logging
import textwrap
import zipfile
from pathlib import Path
from typing import Dict, Optional

from fairseq.distributed import utils as distributed_utils
from fairseq.logging import metrics

from fairseq_electra.checkpoints.files import LAST, choose_checkpoint, remove_parts
from fairseq_electra.checkpoints.safe_loading import load_file
from fairseq_electra.compat.checkpoints.run_options import ORDER, list_changes
from fairseq_electra.compat.checkpoints.save_dir_lock import lock_save_dir

logger = logging.getLogger(__name__)

# how fairseq begins what it says of a checkpoint of another model, criterion or optimizer
MISFITS = ("Cannot load model parameters", "Criterion does not match", "Optimizer does not match")
LONGEST = 400  # characters of the reason, which may be torch's list of tensors
PLACE = (
    ". What it has read of its epoch is counted in batches: until the end of the epoch some "
    "sentences are read twice and others not at all"
)


def agree_on_checkpoint(cfg, trainer) -> str:
    """The choice of the first worker, which all must load; ValueError on all if it has none.

    That worker also sees to it that no other training writes to the save-dir while this one lasts.
    """
    answer = {"chosen": None, "error": None}
    if trainer.data_parallel_rank == 0:
        try:
            if not cfg.no_save:
                if distributed_utils.is_master(trainer.cfg.distributed_training):
                    lock_save_dir(cfg.save_dir)
                remove_parts(cfg.save_dir)
            answer["chosen"] = choose_checkpoint(cfg, trainer.checkpoint_suffix)
        except ValueError as error:
            answer["error"] = str(error)
    if trainer.data_parallel_world_size > 1:
        group = trainer.data_parallel_process_group
        answer = distributed_utils.broadcast_object(answer, 0, group, dist_device=trainer.device)
    if answer["error"] is not None:
        raise ValueError(answer["error"])
    return answer["chosen"]


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


def warn_of_changes(saved: Dict, trainer) -> None:
    """Say, in the first worker's log, which options and data are not those of the checkpoint."""
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


def describe_misfit(error: Exception, path: Optional[Path], saved: Dict, cfg) -> Optional[str]:
    """What to say if `error` means that a checkpoint does not fit this run; None for others.

    fairseq says to "ensure that the architectures match", whatever the reason was.

    Args:
        error: of fairseq's loading.
        path, saved: the checkpoint and what is in it.
        cfg: fairseq's whole configuration.
    """
    if not str(error).startswith(MISFITS):
        return None
    # fairseq raises its own error while it handles the one that has the reason
    reason = str(error.__context__ or error).rstrip(".\n")
    reason = textwrap.shorten(reason, LONGEST, placeholder=" (and more)")
    parts = [f"the checkpoint {path} does not fit this run: {reason}"]
    changes = list_changes(saved.get("cfg"), cfg)
    if changes:
        parts.append(f"Options that differ: {', '.join(map(str, changes))}")
    if path is not None and path.parent == Path(cfg.checkpoint.save_dir):
        parts.append(
            "It is in this run's --save-dir: another training needs another one (with "
            "--finetune-from-model if it is to begin with these weights)"
        )
    return ". ".join(parts)


def resume_log_interval(extra_state) -> None:
    """Restore what was measured since the last line of the log (--log-interval).

    fairseq drops all measures where it resumes at an epoch's beginning; but an interval of the log
    goes on over epochs.
    """
    meters = extra_state.get("metrics", {})
    if extra_state["train_iterator"]["iterations_in_epoch"] == 0 and "train_inner" in meters:
        metrics.load_state_dict({"train_inner": meters["train_inner"]})


def resume_schedule(extra_state, trainer) -> None:
    """Tell the schedule the validation loss of the epoch at whose end a checkpoint was saved.

    fairseq saves first, and tells it then; some schedules lower the rate by it.
    """
    place = extra_state["train_iterator"]
    if place["iterations_in_epoch"] == 0:
        trainer.lr_step(place["epoch"] - 1, extra_state.get("val_loss"))


def stop_if_complete(trainer) -> None:
    """Train no further update when a run that has made all of --max-update is started again.

    fairseq looks only after an update, so it would make one more, and save it.
    """
    updates, options = trainer.get_num_updates(), trainer.cfg.optimization
    if 0 < options.max_update <= updates:
        logger.info("the run has made its %d updates: nothing is left to train", updates)
        options.max_epoch = -1  # 0 means without end
