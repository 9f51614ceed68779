"""Whether a run's training data is what it was, and what its other workers have.

A split is known by a checksum of its two files (data_files.py). A checkpoint has those of all data
directories that were read, within the state of the task.
"""

import logging
import socket
from pathlib import Path
from typing import Dict, List, Optional

import torch
from fairseq.distributed import utils as distributed_utils

from fairseq_electra.process.state import process_state

logger = logging.getLogger(__name__)


def note_data(known: Dict[int, int], shard: int, path: Path) -> None:
    """Take up training data that was just loaded; a warning if it was other data before.

    Args:
        known: checksums by data directory, counted from 0 on in the order given; changed in place.

    Raises:
        ValueError: if another worker has loaded other data.
    """
    checksum = process_state.split_checksums.get(path.resolve())
    check_same_on_workers(checksum, path)
    if checksum is not None:
        warn_of_other(known.get(shard, checksum), checksum, path)
        known[shard] = checksum


def expect_data(known: Dict[int, int], saved: Dict[int, int], paths: List[Path]) -> None:
    """Compare with what a checkpoint says: now what is loaded, the others when they are."""
    for shard, checksum in known.items():
        warn_of_other(saved.get(shard, checksum), checksum, paths[shard])
    known |= {shard: saved[shard] for shard in saved.keys() - known.keys()}


def warn_of_other(before: int, checksum: int, path: Path) -> None:
    if before != checksum:
        logger.warning(
            "%s is not what this run was trained on before: it goes on with the new data. What it "
            "has read of its epoch is counted in batches of the old",
            path,
        )


def check_same_on_workers(checksum: Optional[int], path: Path) -> None:
    """ValueError on all workers if one has other data under the same name than the first."""
    group = distributed_utils.get_data_parallel_group()
    workers = distributed_utils.get_world_size(group)
    if workers < 2:
        return
    found = [None] * workers
    torch.distributed.all_gather_object(found, (checksum, socket.gethostname()), group)
    (first, host), *others = found
    for rank, (other, other_host) in enumerate(others, 1):
        if other != first:
            raise ValueError(
                f"worker {rank} on {other_host} has other training data in {path} than worker 0 "
                f"on {host}: copy the folder again from where it was made, to all hosts"
            )
