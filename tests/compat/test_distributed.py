"""Changes in how fairseq's workers work together; more in tests/reliability."""

import signal
import subprocess

import pytest
import torch
from fairseq.data.iterators import EpochBatchIterator
from fairseq.dataclass.configs import DistributedTrainingConfig
from fairseq.distributed import DistributedTimeoutWrapper
from fairseq.distributed import utils as distributed_utils
from torch.utils.data import TensorDataset

from commands import command_environment, python_folder

BROADCAST = """
import sys
import torch
import fairseq_electra
from fairseq.distributed.utils import _broadcast_object_slow
from omegaconf import OmegaConf

rank = int(sys.argv[1])
torch.distributed.init_process_group(
    "gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2
)
state = {"cfg": OmegaConf.create({"arch": "electra_tiny"})} if rank == 0 else None
group = torch.distributed.group.WORLD
print(_broadcast_object_slow(state, 0, group, torch.device("cpu")))
torch.distributed.barrier()
"""


def test_a_configuration_reaches_the_other_worker(tmp_path):
    """As a checkpoint's does when several workers resume."""
    started = [
        subprocess.Popen(
            [python_folder() / "bin" / "python", "-c", BROADCAST, str(rank), tmp_path / "meeting"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=command_environment(),
        )
        for rank in range(2)
    ]
    (zero, _), (one, errors) = (process.communicate() for process in started)
    lines = [output.splitlines()[-1] for output in (zero, one)]  # gloo may print others before
    assert lines == ["{'cfg': {'arch': 'electra_tiny'}}"] * 2, errors


def begin_epoch(shards, numbers=20, size=1):
    """The first of so many workers, with batches of numbers that follow each other."""
    batches = [list(range(n, n + size)) for n in range(0, numbers, size)]
    return EpochBatchIterator(
        TensorDataset(torch.arange(numbers)),
        lambda items: [int(number) for (number,) in items],
        batches,
        num_shards=shards,
        shard_id=0,
    )


@pytest.mark.parametrize(
    ("read", "shards", "size", "expected"),
    [
        (5, 2, 1, [4]),  # the third of each is the fifth and the sixth: one is read twice
        (19, 2, 1, [18]),
        (12, 1, 2, [18, 19]),  # fairseq's place is past the tenth and last batch
    ],
)
def test_a_place_that_is_none_any_more_is_before_it(read, shards, size, expected):
    """Otherwise fairseq ends with "dataloader mismatch", or leaves sentences out."""
    before, after = begin_epoch(1), begin_epoch(shards, size=size)
    batches = before.next_epoch_itr(shuffle=False)
    for _ in range(read):
        next(batches)
    after.load_state_dict(before.state_dict())
    assert next(after.next_epoch_itr(shuffle=False)) == expected


def test_another_number_of_workers_goes_on_at_the_same_sentence():
    """One worker has read 6 batches: each of two has read 3, and the first goes on with the 7th."""
    one, two = begin_epoch(1), begin_epoch(2)
    batches = one.next_epoch_itr(shuffle=False)
    read = [next(batches) for _ in range(6)]
    assert read == [[index] for index in range(6)]
    two.load_state_dict(one.state_dict())
    assert next(two.next_epoch_itr(shuffle=False)) == [6]


def test_a_process_of_torchrun_needs_no_gpu(monkeypatch):
    """fairseq divides the worker's number by that of the GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    launched = {"MASTER_ADDR": "localhost", "MASTER_PORT": "1", "WORLD_SIZE": "2", "RANK": "1"}
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    cfg = DistributedTrainingConfig(distributed_world_size=2)
    distributed_utils.infer_init_method(cfg)
    assert (cfg.distributed_init_method, cfg.distributed_rank) == ("env://", 1)


def test_a_heartbeat_ends_a_worker_at_once():
    """Python handles SIGINT, fairseq's default, only when torch has stopped waiting."""
    wrapped = DistributedTimeoutWrapper(torch.nn.Linear(1, 1), timeout=0)
    assert wrapped.signal == signal.SIGTERM
