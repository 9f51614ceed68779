"""Plots are an extra: without matplotlib a command does the rest, and says what to install."""

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator


@contextmanager
def plot_to(path: Path) -> Iterator[None]:
    """The block imports what draws, and draws; without matplotlib a line names what is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        install = "pip install 'fairseq_electra[plot]'"
        print(f"no {path}: matplotlib is not installed: {install}", file=sys.stderr)
