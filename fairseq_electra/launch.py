"""Processes that torchrun or srun has started: do they train together?

fairseq looks at their environment only where it expects several workers, which it does by the
number of this machine's GPUs unless --distributed-world-size says otherwise.
"""

import logging
from typing import Mapping

import torch

logger = logging.getLogger(__name__)

TORCHRUN = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK")


def join_processes(cfg, environ: Mapping[str, str]) -> bool:
    """Complete the options by what torchrun says.

    Args:
        cfg: fairseq's DistributedTrainingConfig, without an init method; changed in place.
        environ: of this process.

    Returns:
        Whether nothing is left to infer.

    Raises:
        ValueError: if srun has started several tasks and each would train alone.
    """
    if all(name in environ for name in TORCHRUN):
        return join_torchrun(cfg, environ)
    if cfg.distributed_world_size == 1:
        check_slurm(environ)
    return False


def join_torchrun(cfg, environ: Mapping[str, str]) -> bool:
    """As fairseq does it, also with one worker expected, and on a machine without GPUs."""
    cfg.distributed_world_size = int(environ["WORLD_SIZE"])
    if torch.cuda.is_available() or cfg.distributed_world_size == 1:
        return False  # fairseq does the rest
    cfg.distributed_init_method = "env://"
    cfg.distributed_rank = int(environ["RANK"])
    cfg.distributed_no_spawn = True
    if cfg.distributed_backend == "nccl":
        logger.warning("no GPU: --distributed-backend gloo in place of nccl")
        cfg.distributed_backend = "gloo"
    if str(cfg.ddp_backend) in ("c10d", "pytorch_ddp"):
        logger.warning("no GPU: --ddp-backend legacy_ddp in place of %s", cfg.ddp_backend)
        cfg.ddp_backend = "legacy_ddp"
    return True


def check_slurm(environ: Mapping[str, str]) -> None:
    """ValueError if this is one of several tasks of a job step: each would train a copy."""
    tasks = int(environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if tasks > 1:
        raise ValueError(
            f"srun has started {tasks} tasks, and each would train a copy of its own, because "
            f"--distributed-world-size is 1. To train together give --distributed-world-size "
            f"{tasks} --distributed-port PORT (docs/distributed.md). If each is a run of its own, "
            "unset SLURM_STEP_NUM_TASKS"
        )
