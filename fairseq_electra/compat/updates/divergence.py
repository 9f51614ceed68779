"""What stops a run that diverges, and what it says: where, what the loss was, what is left.

Numbers that are not finite stop a run by fairseq's own guards. A loss that grows and stays finite
does not: `check_growth` compares it with that of a model which knows nothing, now and then.
"""

import zipfile
from pathlib import Path
from typing import Dict, List, Optional

import torch
from fairseq.logging import metrics

from fairseq_electra.checkpoints.safe_loading import LOAD_ERRORS, load_file
from fairseq_electra.process.state import process_state

LOSSES = ("loss", "gen_loss", "disc_loss")
CRASH = "crash.pt"  # fairseq writes it when it stops
LOOK_EVERY = 50  # updates
LOOKS = 3  # in a row, at means since the last line of the log, that must show it
DIVERGED = 5.0  # times the loss of a model that knows nothing


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


def check_growth(trainer) -> None:
    """Stop a run whose loss has long been far above that of a model that knows nothing.

    Reads one number off the device every LOOK_EVERY updates; all workers read the same.

    Raises:
        FloatingPointError: with the loss and the checkpoint to go on from.
    """
    update = trainer.get_num_updates()
    meter = metrics.get_meter("train_inner", "_times_uninformed")
    if update % LOOK_EVERY or meter is None or meter.avg is None:  # None: nothing logged since
        return
    times = float(meter.avg)
    above = process_state.looks_above.get(trainer, 0) + 1 if times > DIVERGED else 0
    process_state.looks_above[trainer] = above
    if above == LOOKS:
        loss = metrics.get_meter("train_inner", "loss").avg
        before = update - LOOKS * LOOK_EVERY
        folder = Path(trainer.cfg.checkpoint.save_dir)
        advice = advise(find_good(folder, before), folder)
        raise FloatingPointError(
            f"the training stopped after update {update}: it diverges. Its loss, "
            f"{float(loss):.4g}, is {times:.3g} times that of a model that knows nothing, and was "
            f"more than {DIVERGED:g} times that since update {before}. {advice}"
        )


def find_good(folder: Path, update: Optional[int] = None) -> Optional[Path]:
    """The newest checkpoint that is whole and whose weights are all finite.

    With `update`, of those that were written up to it.
    """
    files = [path for path in folder.glob("checkpoint*.pt") if path.name != CRASH]
    # of files of one time the one that is not written over
    files.sort(key=lambda path: (path.stat().st_mtime, path.name != "checkpoint_last.pt"))
    return next((path for path in reversed(files) if is_good(path, update)), None)


def is_good(path: Path, update: Optional[int] = None) -> bool:
    """Whether every weight can be read and is finite, in a checkpoint written up to `update`."""
    try:
        checkpoint = load_file(path, mmap=zipfile.is_zipfile(path))
        if update is not None and checkpoint["optimizer_history"][-1]["num_updates"] > update:
            return False
        return all(bool(torch.isfinite(tensor).all()) for tensor in checkpoint["model"].values())
    except LOAD_ERRORS:
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
    crash = folder / CRASH
    return (
        f"{start}. {crash} is for finding the cause, not for going on" if crash.exists() else start
    )
