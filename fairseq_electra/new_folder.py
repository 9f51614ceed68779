"""Make a folder or a file all at once: written aside, put in its place when complete.

In: the final path; nothing may be yet where a folder is made. Out: the same path, complete, or what
was there.
"""

import shutil
import signal
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator


@contextmanager
def new_folder(out_dir: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes out_dir at the end of the block.

    Its parent is temporary as well and holds what is not to be kept. ValueError if out_dir holds
    something. After an error, Ctrl-C or a plain kill nothing is left; after kill -9 a folder
    OUT_DIR.partial-* is, which does not disturb the next run.
    """
    out_dir = out_dir.resolve()
    check_free(out_dir)
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    for leftover in sorted(out_dir.parent.glob(f"{out_dir.name}.partial-*")):
        print(f"note: {leftover} is of another or an unfinished run", file=sys.stderr)
    partial = Path(tempfile.mkdtemp(prefix=f"{out_dir.name}.partial-", dir=out_dir.parent))
    try:
        with exit_on_signals():
            folder = partial / "out"
            folder.mkdir()
            yield folder
            check_free(out_dir)
            folder.rename(out_dir)
    finally:
        shutil.rmtree(partial)


def write_whole_text(path: Path, text: str) -> None:
    """Write a small file aside, then put it in its place: whole, whenever the process is killed."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Within the block a kill or Ctrl-C ends the program as an exception does, without a trace."""
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda got, _: sys.exit(128 + got)) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


def check_free(out_dir: Path) -> None:
    """ValueError if there is a file, or a folder that is not empty."""
    if out_dir.exists() and not (out_dir.is_dir() and not any(out_dir.iterdir())):
        raise ValueError(f"{out_dir} exists already: remove it, or name another folder")
