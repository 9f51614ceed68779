"""What the plugin changes in fairseq and numpy so that both run with today's torch: all of it here.

`apply()` is called once, when the package is imported. Each change says which version needs it and
what goes wrong without it; each has a test in tests/test_compat.py that fails without it.
"""

import argparse
import sys
from types import SimpleNamespace

import numpy as np
import torch

try:
    import fairseq
except ImportError as error:
    raise ImportError(
        "fairseq_electra needs fairseq: run scripts/setup.sh, or "
        "`pip install --no-deps ve-fairseq==0.12.3` on Python 3.11 and 3.12"
    ) from error

from fairseq.logging import progress_bar

MAX_SHOWN_ELEMENTS = 8


def apply() -> None:
    """Make every change below; calling it again changes nothing."""
    allow_checkpoint_classes()
    restore_numpy_compat()
    shorten_logged_tensors()


def allow_checkpoint_classes() -> None:
    """Let `torch.load(weights_only=True)`, the default since torch 2.6, read fairseq's checkpoints.

    They hold the model's arguments as an `argparse.Namespace`. It is allowed by name instead of
    turning `weights_only` off, which would let any downloaded checkpoint run code.
    Needed by ve-fairseq 0.12.3; fairseq main loads with `weights_only=False`.
    """
    torch.serialization.add_safe_globals([argparse.Namespace])


def restore_numpy_compat() -> None:
    """Give `--sample-break-mode eos` its `np.compat.long`, which numpy 2 removed.

    Needed by every fairseq to date (TokenBlockDataset) with numpy >= 2.
    """
    if not hasattr(np, "compat"):
        np.compat = SimpleNamespace(long=int)


def shorten_logged_tensors() -> None:
    """Print a long tensor in a progress bar as its shape.

    fairseq-validate prints every logging output of every batch, and the criterion's histogram
    (from which the AUC comes) has thousands of elements. No fairseq has a hook for it.
    """
    original = progress_bar.format_stat
    if getattr(original, "shortens_tensors", False):
        return

    def format_stat(stat):
        if torch.is_tensor(stat) and stat.numel() > MAX_SHOWN_ELEMENTS:
            return f"<{'x'.join(str(size) for size in stat.shape)}>"
        return original(stat)

    format_stat.shortens_tensors = True
    progress_bar.format_stat = format_stat


def describe_versions() -> str:
    """Python, torch and fairseq versions on one line, for logs and error messages."""
    return (
        f"Python {sys.version.split()[0]}, torch {torch.__version__}, fairseq {fairseq.__version__}"
    )
