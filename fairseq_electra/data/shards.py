"""Whether data directories that take turns (`data=a:b`, one an epoch) belong together.

fairseq reads the first one's dict.txt and opens each directory when its epoch comes.
"""

from itertools import zip_longest
from pathlib import Path
from typing import List

from fairseq.data import Dictionary


def check_dictionaries(shards: List[Path], advice: str) -> None:
    """Raise unless every shard has a dict.txt with the first one's words in its order.

    Counts may differ, as where fairseq-preprocess counted each shard's own text.

    Raises:
        FileNotFoundError: if a folder or its dict.txt is missing.
        ValueError: naming the first other word.
    """
    for shard in shards:
        if not shard.is_dir():
            raise FileNotFoundError(f"there is no data directory {shard}; {advice}")
        if not (shard / "dict.txt").is_file():
            raise FileNotFoundError(f"no dict.txt in {shard}: not a data directory; {advice}")
    paths = [shard / "dict.txt" for shard in shards]
    first = paths[0].read_bytes()
    others = [path for path in paths[1:] if path.read_bytes() != first]
    for path in others:
        check_same_words(paths[0], path, advice)


def check_same_words(first: Path, other: Path, advice: str) -> None:
    """ValueError if a dictionary has other words than the first, or another order."""
    ours, theirs = (Dictionary.load(str(path)).symbols for path in (first, other))
    for line, (word, found) in enumerate(zip_longest(ours, theirs), 1 - Dictionary().nspecial):
        if word != found:
            raise ValueError(
                f"{other} has other words than {first}, from line {line} on: the texts of all data "
                f"directories must be made with one dictionary; {advice} --srcdict {first}"
            )
