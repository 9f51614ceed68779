"""What fairseq forgets when a run goes on from its checkpoint, or has nothing left to train.

`compat.check_checkpoints_first` calls these functions around fairseq's loading.
"""

import logging

from fairseq.distributed import utils as distributed_utils
from fairseq.logging import metrics

from fairseq_electra.checkpoint_files import choose_checkpoint, remove_parts
from fairseq_electra.save_dir_lock import lock_save_dir

logger = logging.getLogger(__name__)


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


def resume_log_interval(extra_state) -> None:
    """Restore what was measured since the last line of the log (--log-interval).

    fairseq drops all measures where it resumes at an epoch's beginning; but an interval of the log
    goes on over epochs.
    """
    meters = extra_state.get("metrics", {})
    if extra_state["train_iterator"]["iterations_in_epoch"] == 0 and "train_inner" in meters:
        metrics.load_state_dict({"train_inner": meters["train_inner"]})


def stop_if_complete(trainer) -> None:
    """Train no further update when a run that has made all of --max-update is started again.

    fairseq looks only after an update, so it would make one more, and save it.
    """
    updates, options = trainer.get_num_updates(), trainer.cfg.optimization
    if 0 < options.max_update <= updates:
        logger.info("the run has made its %d updates: nothing is left to train", updates)
        options.max_epoch = -1  # 0 means without end
