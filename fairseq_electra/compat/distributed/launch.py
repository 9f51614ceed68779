"""Processes that torchrun or srun has started: do they train together?

fairseq looks at their environment only where it expects several workers, which it does by the
number of this machine's GPUs unless --distributed-world-size says otherwise.
"""

import logging
import subprocess
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
        ValueError: if srun has started several tasks and each would train alone, or no worker was
            asked for (fairseq then ends well without a word).
    """
    if cfg.distributed_world_size < 1:
        raise ValueError(
            "--distributed-world-size must be a whole number, 1 or more, not "
            f"{cfg.distributed_world_size}"
        )
    if all(name in environ for name in TORCHRUN):
        return join_torchrun(cfg, environ)
    tasks = int(environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if cfg.distributed_world_size == 1:
        check_slurm(environ)
    elif tasks > 1 and not torch.cuda.is_available():
        return join_slurm(cfg, environ, tasks)
    return False


def join_torchrun(cfg, environ: Mapping[str, str]) -> bool:
    """As fairseq does it, also with one worker expected, and on a machine without GPUs."""
    cfg.distributed_world_size = int(environ["WORLD_SIZE"])
    if torch.cuda.is_available() or cfg.distributed_world_size == 1:
        return False  # fairseq does the rest
    set_worker(cfg, int(environ["RANK"]), "env://")
    return True


def join_slurm(cfg, environ: Mapping[str, str], tasks: int) -> bool:
    """srun's tasks on a machine without GPUs: they meet at the first host of the step.

    Raises:
        ValueError: if the options are not those of a run of so many tasks.
    """
    if cfg.distributed_world_size != tasks or cfg.distributed_port <= 0:
        raise ValueError(
            f"srun has started {tasks} tasks, but --distributed-world-size is "
            f"{cfg.distributed_world_size} and --distributed-port {cfg.distributed_port}: give "
            f"--distributed-world-size {tasks} and one port, such as 29500, for all"
        )
    nodes = environ.get("SLURM_STEP_NODELIST") or environ["SLURM_JOB_NODELIST"]
    hosts = subprocess.check_output(["scontrol", "show", "hostnames", nodes], text=True).split()
    address = f"tcp://{hosts[0]}:{cfg.distributed_port}"
    set_worker(cfg, int(environ["SLURM_PROCID"]), address)
    return True


def set_worker(cfg, rank: int, init_method: str) -> None:
    """One worker on a machine without GPUs, where fairseq's defaults cannot be used."""
    cfg.distributed_init_method = init_method
    cfg.distributed_rank = rank
    cfg.device_id = 0
    cfg.distributed_no_spawn = True
    if cfg.distributed_backend == "nccl":
        logger.warning("no GPU: --distributed-backend gloo in place of nccl")
        cfg.distributed_backend = "gloo"
    if str(cfg.ddp_backend) in ("c10d", "pytorch_ddp"):
        logger.warning("no GPU: --ddp-backend legacy_ddp in place of %s", cfg.ddp_backend)
        cfg.ddp_backend = "legacy_ddp"


def check_not_separate(cfg, environ: Mapping[str, str]) -> None:
    """ValueError if this is one of several processes, of torchrun or srun, that trains alone."""
    if cfg.distributed_world_size > 1:
        return
    if all(name in environ for name in TORCHRUN) and int(environ["WORLD_SIZE"]) > 1:
        raise ValueError(
            f"torchrun has started {environ['WORLD_SIZE']} processes, and each would train a copy "
            "of its own: start fairseq-train, or give fairseq-hydra-train "
            f"distributed_training.distributed_world_size={environ['WORLD_SIZE']} "
            "(docs/distributed.md). If each is a run of its own, unset WORLD_SIZE"
        )
    if not all(name in environ for name in TORCHRUN):
        check_slurm(environ)


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
