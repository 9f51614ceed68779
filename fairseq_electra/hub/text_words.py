"""A text -> the words that a tagger was trained on, as corpora cut them.

In: any text. Out: places of its words, none empty, in their order; nothing but white space is
between them.
"""

import re
import unicodedata
from itertools import groupby
from typing import List

from fairseq_electra.data.tokenizer import Span

ALONE = {".", ","}  # between white space they show that a text is cut into words already
# of Chinese, where each character is a word, as in BERT
IDEOGRAPH = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f]")
ENDING = re.compile("(?:n['\u2019]t|['\u2019](?:s|re|ve|ll|d|m))$", re.IGNORECASE)  # Penn Treebank
# U.S, J, Mr without their last full stop
SHORTENED = re.compile(r"(?:\w\.)+\w|[A-Z]|Mr|Mrs|Ms|Dr|St|Sen|Rep|Gov|Gen|Prof")
STOP = re.compile(r"\.(?:,|\s+(\w))")  # a full stop and what follows


def find_words(text: str) -> List[Span]:
    """First and past-the-last character of each word.

    A text in which a full stop or a comma stands between white space is cut already, as the files
    that a tagger is trained on: words are what stands between white space. Of any other text the
    signs (all but letters, digits and their marks) before and after a word are words of their own,
    equal neighbours together, but not a full stop that shortens the word (U.S., Mr., Co. before a
    small letter or a comma), and so are the endings 's, 're, 've, 'll, 'd, 'm, n't and each
    Chinese character.
    """
    runs = [run.span() for run in re.finditer(r"\S+", text)]
    if any(text[start:end] in ALONE for start, end in runs):
        return runs
    return [word for run in runs for word in cut_run(text, *run)]


def cut_run(text: str, start: int, end: int) -> List[Span]:
    """The words of what stands between white space."""
    if ENDING.fullmatch(text[start:end]):
        return [(start, end)]
    letters = [place for place in range(start, end) if is_letter(text[place])]
    first, last = (letters[0], letters[-1] + 1) if letters else (end, end)
    if first < last and text.startswith(".", last, end):
        last += bool(SHORTENED.fullmatch(text, first, last)) or goes_on(text, last)
    return [
        *cut_signs(text, start, first),
        *cut_core(text, first, last),
        *cut_signs(text, last, end),
    ]


def goes_on(text: str, place: int) -> bool:
    """Whether the full stop at `place` ends no sentence: a comma or a small letter follows."""
    stop = STOP.match(text, place)
    return stop is not None and (stop[1] is None or stop[1].islower())


def cut_signs(text: str, start: int, end: int) -> List[Span]:
    """Runs of the same sign."""
    words = []
    for _, run in groupby(text[start:end]):
        words.append((start, start + len(list(run))))
        start = words[-1][1]
    return words


def cut_core(text: str, start: int, end: int) -> List[Span]:
    """A word without signs around it, its ending and Chinese characters apart."""
    ending = ENDING.search(text[start:end])
    cut = start + ending.start() if ending else end
    words, first = [], start
    for found in IDEOGRAPH.finditer(text, start, cut):
        words += [(first, found.start()), found.span()]
        first = found.end()
    words += [(first, cut), (cut, end)]
    return [(first, last) for first, last in words if first < last]


def is_letter(character: str) -> bool:
    """Letters, digits, and the marks above and below them."""
    return character.isalnum() or unicodedata.category(character).startswith("M")
