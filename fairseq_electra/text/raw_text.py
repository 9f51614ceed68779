"""Read raw text: plain, .gz or .xz files of paragraph lines, blank lines between documents.

In: paths. Out: lines without white space at their ends, one at a time, so that a file may have
any size. ValueError for what is not such text; it names the file and the way out.
"""

import gzip
import io
import lzma
import zlib
from pathlib import Path
from typing import BinaryIO, Iterator, List

MAX_LINE = 1_000_000  # bytes
OPENERS = {".gz": gzip.open, ".xz": lzma.open}
BROKEN = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError)


def open_raw(path: Path) -> BinaryIO:
    """The decompressed bytes of a file."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name the text files in it")
    opener = OPENERS.get(path.suffix, open)
    try:
        return io.BufferedReader(opener(path, "rb"), buffer_size=1 << 20)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def read_lines(path: Path) -> Iterator[str]:
    """Lines of a text file, "" for a blank one; at least one is not blank."""
    found = False
    with open_raw(path) as file:
        for number, raw in enumerate(split_lines(file, path), start=1):
            line = decode_line(raw, path, number)
            found = found or bool(line)
            yield line
    if not found:
        raise ValueError(f"{path} holds no text: it is empty or has only blank lines")


def split_lines(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Lines as bytes, none longer than MAX_LINE."""
    try:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), start=1):
            if len(line) > MAX_LINE:
                raise ValueError(
                    f"{path}, line {number}: has {MAX_LINE} bytes or more: split the text into "
                    "paragraphs of one line each"
                )
            yield line
    except BROKEN as error:
        raise ValueError(
            f"{path}: broken {path.suffix} file ({error}): get or compress it again"
        ) from None


def read_rows(path: Path) -> Iterator[List[str]]:
    """The fields of each line of a table, between tabs; quotes mean nothing in them."""
    with open_raw(path) as file:
        for number, raw in enumerate(split_lines(file, path), start=1):
            yield decode(raw, path, number).strip("\ufeff").rstrip("\r\n").split("\t")


def decode_line(raw: bytes, path: Path, number: int) -> str:
    """One line as text without white space at its ends."""
    return decode(raw, path, number).strip("\ufeff").strip()


def decode(raw: bytes, path: Path, number: int) -> str:
    """One line as text."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}, line {number}, byte {error.start + 1}: not UTF-8 text: "
            "convert the file, for example with iconv -t utf-8"
        ) from None
