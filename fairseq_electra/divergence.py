"""What a run says when its numbers are no longer finite: where, what the loss was, what is left.

In: fairseq's trainer and the error that its own guards raised. Out: the last line of its log.
"""

import pickle
import zipfile
from pathlib import Path
from typing import Dict, List, Optional

import torch
from fairseq.logging import metrics

from fairseq_electra.safe_loading import load_file

LOSSES = ("loss", "gen_loss", "disc_loss")
CRASH = "crash.pt"  # fairseq writes it when it stops
UNREADABLE = (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError)


def describe_stop(trainer, logs: List[Dict], error: FloatingPointError) -> str:
    """Which update, the losses of this worker's batches, fairseq's reason and what to do.

    Args:
        logs: logging outputs of the update's batches.
    """
    update = trainer.get_num_updates() + 1
    losses = ", ".join(f"{name} {value:.4g}" for name, value in read_losses(trainer, logs).items())
    reason = str(error).splitlines()[0]
    folder = Path(trainer.cfg.checkpoint.save_dir)
    return (
        f"the training stopped at update {update}, which was not made: {reason} "
        f"(worker {trainer.data_parallel_rank}: {losses or 'no loss'}). "
        f"{advise(find_good(folder), folder)}"
    )


def read_losses(trainer, logs: List[Dict]) -> Dict[str, float]:
    """The losses as fairseq would have logged them."""
    if not logs:
        return {}
    with metrics.aggregate(new_root=True) as meters:
        trainer.criterion.__class__.reduce_metrics(logs)
        found = {name: meters[name].avg for name in LOSSES if name in meters}
    return {name: float(value) for name, value in found.items()}


def find_good(folder: Path) -> Optional[Path]:
    """The newest checkpoint that is whole and whose weights are all finite."""
    files = [path for path in folder.glob("checkpoint*.pt") if path.name != CRASH]
    # of files of one time the one that is not written over
    files.sort(key=lambda path: (path.stat().st_mtime, path.name != "checkpoint_last.pt"))
    return next((path for path in reversed(files) if is_good(path)), None)


def is_good(path: Path) -> bool:
    """Whether every weight in a checkpoint can be read and is finite."""
    try:
        tensors = load_file(path, mmap=zipfile.is_zipfile(path))["model"].values()
        return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
    except UNREADABLE:
        return False


def advise(good: Optional[Path], folder: Path) -> str:
    """What to start from, and what not."""
    if good is None:
        start = f"{folder} has no checkpoint with finite weights: start anew with a lower --lr"
    else:
        start = (
            f"The last good checkpoint is {good}: go on from it with --restore-file and a lower "
            "--lr, or more warm-up"
        )
    return f"{start}. {folder / CRASH} is for finding the cause, not for going on"
