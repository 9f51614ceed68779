"""Whether the files of a split are whole: NAME.idx against NAME.bin, ids against the dictionary.

fairseq maps both into memory and believes them. A damaged index gives it other tokens without a
word, or an error that names no file; `compat/loading/` calls `check_data` before it reads.
"""

import struct
import zlib
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
from fairseq.data import indexed_dataset

from fairseq_electra.process.state import process_state

MAGIC = b"MMIDIDX\x00\x00"  # of `--dataset-impl mmap`, which fairseq-preprocess writes
LEGACY = (b"TNTIDX\x00\x00", b"HUFFIDX\x00")  # older formats and huffman; not looked into
HEADER = struct.Struct("<9sQBQ")  # magic, version, code of the ids' type, number of entries
CHUNK = 1 << 24  # ids that are looked at together
MEND = "copy the folder again from where it was made, or make it again"


class Index(NamedTuple):
    """A split's index: where each entry (a line of the text) lies in the .bin file."""

    dtype: np.dtype  # of the ids
    sizes: np.ndarray  # (N,) int32, ids of each entry
    starts: np.ndarray  # (N,) int64, bytes
    checksum: int  # CRC-32 of the file


def check_data(path: str, dictionary=None) -> None:
    """Check `path`.idx and `path`.bin, if both are there, and note their checksum.

    Both are read once; fairseq does that anyway, to have them in the system's cache.

    Args:
        dictionary: whose words the ids stand for; without one neither they are looked at nor is a
            checksum noted.

    Raises:
        ValueError: naming the file, and for an id its entry.
    """
    idx, data = Path(path + ".idx"), Path(path + ".bin")
    if not (idx.is_file() and data.is_file()):
        return
    with idx.open("rb") as file:
        if file.read(len(LEGACY[0])) in LEGACY:
            return
    index = read_index(idx)
    check_places(index, idx, data)
    if dictionary is not None and np.issubdtype(index.dtype, np.integer):
        checksum = check_ids(index, data, len(dictionary))
        process_state.split_checksums[Path(path).resolve()] = checksum
        check_end(index, data, getattr(dictionary, "bos_index", None))


def read_index(path: Path) -> Index:
    """The content of an index; ValueError if its header and its size do not fit."""
    content = path.read_bytes()
    if len(content) < HEADER.size:
        raise ValueError(f"{path} is damaged: it ends in its header; {MEND}")
    magic, version, code, entries = HEADER.unpack_from(content)
    if magic != MAGIC or version != 1 or code not in indexed_dataset._code_to_dtype:
        raise ValueError(f"{path} is damaged: its header is not fairseq's; {MEND}")
    expected = HEADER.size + 12 * entries  # 4 bytes for the size, 8 for the place
    if len(content) != expected:
        raise ValueError(
            f"{path} is damaged: {entries} entries need {expected} bytes, it has "
            f"{len(content)}; {MEND}"
        )
    return Index(
        np.dtype(indexed_dataset._code_to_dtype[code]),
        np.frombuffer(content, np.int32, entries, HEADER.size),
        np.frombuffer(content, np.int64, entries, HEADER.size + 4 * entries),
        zlib.crc32(content),
    )


def check_places(index: Index, idx: Path, data: Path) -> None:
    """ValueError unless the entries lie one behind the other and fill the .bin file."""
    ends = np.cumsum(index.sizes, dtype=np.int64) * index.dtype.itemsize
    starts = np.concatenate([[0], ends[:-1]])
    wrong = np.flatnonzero((index.sizes < 0) | (starts != index.starts))
    if len(wrong):
        raise ValueError(
            f"{idx} is damaged: entry {wrong[0] + 1} of {len(starts)} does not begin where the one "
            f"before it ends; {MEND}"
        )
    expected, found = int(ends[-1]) if len(ends) else 0, data.stat().st_size
    if found != expected:
        raise ValueError(
            f"{data} has {found} bytes, its index {idx.name} wants {expected}: one of them is "
            f"damaged or from another data-bin; {MEND}"
        )


def check_ids(index: Index, data: Path, words: int) -> int:
    """ValueError for an id that is not from 0 to words - 1; the checksum of index and data."""
    first, checksum = 0, index.checksum
    with data.open("rb") as file:
        while len(ids := np.fromfile(file, index.dtype, CHUNK)):
            if ids.max() >= words or ids.min() < 0:
                wrong = int(np.flatnonzero((ids >= words) | (ids < 0))[0])
                place = (first + wrong) * index.dtype.itemsize
                entry = int(np.searchsorted(index.starts, place, side="right"))
                raise ValueError(
                    f"{data} is damaged or from another dictionary: entry {entry} has the id "
                    f"{ids[wrong]}, dict.txt has {words} words with the special ones; {MEND}"
                )
            first += len(ids)
            checksum = zlib.crc32(ids, checksum)
    return checksum


def check_end(index: Index, data: Path, bos: Optional[int]) -> None:
    """ValueError if it ends in zeros, as after a crash: no line ends in <s>, whose id is 0."""
    width = index.dtype.itemsize
    with data.open("rb") as file:
        file.seek(-min(width, data.stat().st_size), 2)
        if bos == 0 and file.read() == bytes(width):
            raise ValueError(f"{data} is damaged: it ends in zeros, which are no text; {MEND}")
