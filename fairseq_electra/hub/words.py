"""Pieces of a text -> its words.

In: a text as the model reads it. Out: each word's place in the text and among the pieces.
"""

import re
import unicodedata
from typing import List, NamedTuple, Tuple

from fairseq_electra.hub.texts import Text

# scripts that leave no spaces between words, as the names of their characters begin
SPACELESS = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")


class Word(NamedTuple):
    """Characters `start` to `end` of a text, pieces `first` to `last`, both without the last."""

    start: int
    end: int
    first: int
    last: int


def split_words(text: Text) -> List[Word]:
    """Words of a text in their order; no piece is in two, no character without a piece in any.

    A word is what stands between white space, less the signs (all but letters, digits and their
    marks) at its beginning and end; each piece of those is a word of its own. So "(isn't)." is "(",
    "isn't" and, as the tokenizer cuts, ")." or ")" and ".". What one piece holds is never cut. In
    scripts without spaces, such as Chinese, each piece is a word.
    """
    cores = [
        (run.end(), find_core(text.text, *run.span())) for run in re.finditer(r"\S+", text.text)
    ]
    words: List[Word] = []
    run = 0
    for place, (start, end) in enumerate(text.spans):
        while run < len(cores) - 1 and start >= cores[run][0]:
            run += 1
        last = words[-1] if words else None
        if last and (
            last.start == last.end or not can_cut(text.text, last.end, start, cores[run][1])
        ):
            begin = start if last.start == last.end else last.start
            words[-1] = Word(begin, max(end, last.end), last.first, place + 1)
        else:
            words.append(Word(start, end, place, place + 1))
    return [word for word in words if word.start < word.end]


def find_core(text: str, start: int, end: int) -> Tuple[int, int]:
    """From its first to past its last letter or digit, of what stands between white space."""
    letters = [place for place in range(start, end) if is_letter(text[place])]
    return (letters[0], letters[-1] + 1) if letters else (end, start)


def can_cut(text: str, end: int, start: int, core: Tuple[int, int]) -> bool:
    """Whether a piece that begins at `start`, after one that ends at `end`, begins a word."""
    if start < end:
        return False
    if any(character.isspace() for character in text[end:start]):
        return True
    is_edge = start <= core[0] or end >= core[1]
    return is_edge or is_spaceless(text[end - 1]) or is_spaceless(text[start])


def is_letter(character: str) -> bool:
    """Letters, digits, and the marks above and below them."""
    return character.isalnum() or unicodedata.category(character).startswith("M")


def is_spaceless(character: str) -> bool:
    return unicodedata.name(character, "").startswith(SPACELESS)
