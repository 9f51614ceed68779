"""CoNLL files: a word a line with its columns, blank lines between sentences.

In: lines of a file, and which columns hold the word and the tag. Out: sentences that know their
lines. ValueError, with file and line, for what does not fit.
"""

import re
from pathlib import Path
from typing import Iterable, Iterator, List, NamedTuple, Optional

DOCSTART = "-DOCSTART-"  # the word on a line that separates documents and is no word
BLANKS = " \t\r"  # nothing else separates columns: a no-break space is part of a word


class Sentence(NamedTuple):
    """Words with their tags, and the numbers of their lines, from 1."""

    words: List[str]
    tags: List[str]  # [] where there are none
    lines: List[int]


def read_lines(path: Path) -> List[str]:
    """The lines of a text file, without their ends."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return content.decode("utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {number}: not UTF-8 text: convert the file, for example with "
            "iconv -t utf-8"
        ) from None


def split_columns(line: str) -> List[str]:
    """The columns of a line, [] for a blank one."""
    return [column for column in re.split(f"[{BLANKS}]+", line) if column]


def read_conll(path: Path, word_column: int = 0, tag_column: Optional[int] = -1) -> List[Sentence]:
    """The sentences of a file; see parse_conll."""
    return parse_conll(read_lines(path), path, word_column, tag_column)


def parse_conll(
    lines: List[str], path: Path, word_column: int = 0, tag_column: Optional[int] = -1
) -> List[Sentence]:
    """The sentences of lines, which are those of a file.

    Args:
        path: for messages.
        word_column, tag_column: from 0, or from the end as -1; no tag_column if there are no tags.

    Raises:
        ValueError: for a line with more or fewer columns than the first, or without the named ones,
            and if no line has a word.
    """
    sentences: List[Sentence] = []
    width = first = 0
    is_open = False
    for number, line in enumerate(lines, start=1):
        columns = split_columns(line)
        if not columns or columns[0] == DOCSTART:
            is_open = False
            continue
        if not width:
            width, first = len(columns), number
            check_columns(width, word_column, tag_column, f"{path}, line {number}")
        if len(columns) != width:
            raise ValueError(
                f"{path}, line {number}: has {len(columns)} columns, line {first} has {width}"
            )
        if not is_open:
            sentences.append(Sentence([], [], []))
            is_open = True
        sentences[-1].words.append(columns[word_column])
        sentences[-1].lines.append(number)
        if tag_column is not None:
            sentences[-1].tags.append(columns[tag_column])
    if not sentences:
        raise ValueError(f"{path} has no words: it is empty or has only blank lines")
    return sentences


def check_columns(width: int, word_column: int, tag_column: Optional[int], place: str) -> None:
    """ValueError unless a line of `width` columns has the named ones, and they are two."""
    numbers = [number for number in (word_column, tag_column) if number is not None]
    for number in numbers:
        if not -width <= number < width:
            raise ValueError(f"{place}: has {width} column(s), none of number {number} (from 0)")
    if len({number % width for number in numbers}) < len(numbers):
        raise ValueError(
            f"{place}: has {width} column(s), and that of the words would be that of the tags too"
        )


def append_tags(lines: List[str], tags: Iterable[str]) -> Iterator[str]:
    """The lines with one more column, as conlleval reads it: a tag a word in turn.

    Blank lines stay as they are, what separates the columns of a line is used again, and a line
    that separates documents gets O.
    """
    tags = iter(tags)
    for line in lines:
        columns = split_columns(line)
        if not columns:
            yield line
            continue
        text = line.rstrip(BLANKS)
        end = "\r" if line.endswith("\r") else ""
        separator = "\t" if "\t" in text.strip(BLANKS) else " "
        tag = "O" if columns[0] == DOCSTART else next(tags)
        yield f"{text}{separator}{tag}{end}"


def format_conll(sentences: List[Sentence]) -> str:
    """The text of a file of words and tags alone."""
    return "".join(
        "".join(f"{word} {tag}\n" for word, tag in zip(sentence.words, sentence.tags)) + "\n"
        for sentence in sentences
    )
