"""Pieces -> fairseq's binary files: what `fairseq-preprocess --only-source` does.

It runs inside this process, which saves the seconds that starting fairseq again takes.
"""

import logging
from pathlib import Path
from typing import List

SPLITS = ("train", "valid", "test")
SECOND = {"valid": "valid1", "test": "test1"}  # where a task has two held-out sets, as MNLI


def binarize(pieces_dir: Path, dictionary: Path, out_dir: Path, workers: int) -> None:
    """Turn pieces_dir/train, valid, test (valid1, test1), where present, into *.bin and *.idx."""
    from fairseq import options  # not for --help
    from fairseq_cli import preprocess

    args = options.get_preprocessing_parser().parse_args(
        [
            *("--only-source", "--srcdict", str(dictionary), "--destdir", str(out_dir)),
            # It encodes all parts but one at the same time, and the last one after them.
            *("--workers", str(workers + 1)),
            *list_prefixes(pieces_dir),
        ]
    )
    logger = logging.getLogger("fairseq_cli.preprocess")
    logger.setLevel(logging.WARNING)
    preprocess.main(args)
    for handler in logger.handlers[:]:  # the next call would go on writing to it
        logger.removeHandler(handler)
        handler.close()
    (out_dir / "preprocess.log").unlink()  # empty at this level


def list_prefixes(pieces_dir: Path) -> List[str]:
    """--trainpref and its sisters for the splits that are there."""
    words = []
    for split in SPLITS:
        paths = [pieces_dir / name for name in (split, SECOND.get(split)) if name]
        found = [str(path) for path in paths if path.exists()]
        if found:
            words += [f"--{split}pref", ",".join(found)]
    return words
