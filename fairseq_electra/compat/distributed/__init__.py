"""Changes in how fairseq's workers find each other, share the work and end."""

import contextlib
import multiprocessing
import os
import signal

import torch
from fairseq import utils as fairseq_utils
from fairseq.data import iterators
from fairseq.distributed import DistributedTimeoutWrapper
from fairseq.distributed import utils as distributed_utils
from fairseq.trainer import Trainer

from fairseq_electra.compat.distributed import workers
from fairseq_electra.compat.distributed.launch import check_not_separate, join_processes


def join_launched_processes() -> None:
    """Let processes of torchrun and srun train together, or say that they would not (launch.py).

    fairseq divides by the number of GPUs, also by none, and where it expects one worker it trains
    as many copies, all in one --save-dir, without a word. Needed by every fairseq to date.
    """
    original = distributed_utils.infer_init_method

    def infer_init_method(cfg, force_distributed=False):
        if cfg.distributed_init_method is None and not join_processes(cfg, os.environ):
            original(cfg, force_distributed)

    distributed_utils.infer_init_method = infer_init_method


def refuse_separate_copies() -> None:
    """Refuse to train copies also where `join_launched_processes` comes too late.

    fairseq-hydra-train imports the plugin after it has looked for other workers.
    Needed by every fairseq to date.
    """
    original = Trainer.__init__

    def __init__(self, cfg, *args, **kwargs):
        check_not_separate(cfg.distributed_training, os.environ)
        original(self, cfg, *args, **kwargs)

    Trainer.__init__ = __init__


def meet_before_data() -> None:
    """Connect the workers before they read their data.

    fairseq makes the group in which they exchange when it has read it. A worker that fails until
    then, on a damaged file that it alone has, leaves the others waiting for torch's 30 minutes;
    connected, they notice at their next exchange. One that does not come at all is waited for, as
    the log then says. Needed by every fairseq to date.
    """
    original = distributed_utils.distributed_init

    def distributed_init(cfg):
        with workers.announce_waiting(cfg):
            rank = original(cfg)
            distributed_utils.get_global_group()
        return rank

    distributed_utils.distributed_init = distributed_init


def broadcast_objects() -> None:
    """Send objects to the other workers by torch's own `broadcast_object_list`.

    fairseq reads them with torch.load, which since torch 2.6 refuses the configuration of a
    checkpoint: no run on several workers could be resumed. What is sent was loaded safely by the
    first worker. Needed by ve-fairseq 0.12.3; fairseq main loads with `weights_only=False`.
    """

    def _broadcast_object_slow(obj, src_rank, group, dist_device):
        objects = [obj]
        torch.distributed.broadcast_object_list(objects, src_rank, group, dist_device)
        return objects[0]

    distributed_utils._broadcast_object_slow = _broadcast_object_slow


def keep_place_with_other_workers() -> None:
    """Resume inside an epoch at the same sentences with another number of workers.

    fairseq saves how many batches each worker had, whatever their number: from one worker to two,
    as many as had been read would be left out; from two to one, half would be read again. Where
    batches are larger now, or do not divide among the workers, the place may be past the last one,
    which fairseq calls a "dataloader mismatch": the last one is read once more then.
    Needed by every fairseq to date.
    """
    epochs = iterators.EpochBatchIterator
    save, load = epochs.state_dict, epochs.load_state_dict

    def state_dict(self):
        return {**save(self), "num_shards": self.num_shards}

    def load_state_dict(self, state):
        read = state.get("iterations_in_epoch", 0) * state.get("num_shards", self.num_shards)
        place = read // self.num_shards
        if place > 0:
            self.epoch = state["epoch"]  # whose batches are counted
            place = min(place, len(self) - 1)
        load(self, {**state, "iterations_in_epoch": place})

    epochs.state_dict, epochs.load_state_dict = state_dict, load_state_dict


def vary_dropout_over_workers() -> None:
    """Let every worker drop other units; the first drops what it does without this.

    fairseq seeds all workers alike in every update, so that batches of one shape get one mask:
    the noise of N workers is that of one. Needed by every fairseq to date.
    """
    original = Trainer._set_seed

    def _set_seed(self):
        original(self)
        rank = self.data_parallel_rank
        if rank > 0:
            seed, update = self.cfg.common.seed, self.get_num_updates()
            fairseq_utils.set_torch_seed(workers.worker_seed(seed, update, rank))

    Trainer._set_seed = _set_seed


def count_last_update_right() -> None:
    """Count all of an epoch's last update where some workers have fewer batches (--update-freq).

    fairseq fills up with a batch that does not count. Where it is a worker's last, none of that
    worker's batches is counted, but their gradients are: the update is too large. With
    fully_sharded every batch takes part in the exchange, so it is left as it is there.
    Needed by every fairseq to date.
    """
    original = Trainer.train_step

    def train_step(self, samples, raise_oom=False):
        if not self.is_fsdp:
            samples = workers.drop_dummies(samples)
        return original(self, samples, raise_oom)

    Trainer.train_step = train_step


def explain_lost_workers() -> None:
    """Say which worker noticed that another one is gone, or a process that loads data, and advise.

    torch's errors name an address or a process. Needed by every fairseq to date.
    """
    original = distributed_utils.call_main

    def call_main(cfg, main, **kwargs):
        with workers.explained(cfg):
            return original(cfg, main, **kwargs)

    distributed_utils.call_main = call_main


class Spawned:
    """fairseq's main function for a process that it spawns: unpickling it imports the plugin."""

    def __init__(self, main):
        self.main = main

    def __call__(self, cfg, **kwargs):
        spawned = multiprocessing.parent_process() is not None
        with workers.explained(cfg) if spawned else contextlib.nullcontext():
            return self.main(cfg, **kwargs)


def come_along_when_spawned() -> None:
    """Import the plugin in the processes that fairseq spawns, one a GPU, before they meet.

    They import it within their main function, too late for all that concerns how they find each
    other. Without a GPU fairseq spawns none and ends well, having done nothing.
    Needed by every fairseq to date.
    """
    original = distributed_utils.call_main

    def call_main(cfg, main, **kwargs):
        distributed = cfg.distributed_training
        given = (
            distributed.distributed_init_method is not None and not distributed.distributed_no_spawn
        )
        if given and not (cfg.common.tpu or torch.cuda.device_count()):
            raise ValueError(
                "fairseq starts a process for each GPU of this machine, and it has none: start one "
                "for each worker with --distributed-no-spawn --distributed-rank RANK, or use "
                "torchrun (docs/distributed.md)"
            )
        return original(cfg, Spawned(main), **kwargs)

    distributed_utils.call_main = call_main


def end_without_heartbeat() -> None:
    """Let --heartbeat-timeout end a worker that waits for another one.

    fairseq sends SIGINT, which Python sees only when torch has stopped waiting, up to 30 minutes
    later. SIGTERM ends the process at once. Needed by every fairseq to date.
    """
    original = DistributedTimeoutWrapper.__init__

    def __init__(self, module, timeout, signal=signal.SIGTERM):
        original(self, module, timeout, signal)

    DistributedTimeoutWrapper.__init__ = __init__
