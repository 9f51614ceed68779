"""A labelled task out of paragraphs: which neighbouring words have changed places?

In: the paragraphs of a split. Out: some of them as tagged sentences in which pairs of neighbours
are swapped, B-SWAP and I-SWAP, about one pair in 20 words, and every other word is O. Everything
is decided by hashes of the text, so it is the same in every run.
"""

import hashlib
from typing import Iterable, List, Sequence

from fairseq_electra.data.conll import Sentence

SHORTEST, LONGEST = 15, 30  # words of a paragraph; most have at most 64 tokens then
WORDS_PER_SWAP = 20
FIRST, SECOND, OTHER = "B-SWAP", "I-SWAP", "O"


def find_places(words: Sequence[str]) -> List[int]:
    """Where a word and the next one can be swapped: the first of each such pair.

    Both are words of small letters alone, since a capital or a full stop at an odd place would
    give the pair away, and they differ.
    """
    plain = [word.isalpha() and word.islower() for word in words]
    pairs = range(len(words) - 1)
    return [i for i in pairs if plain[i] and plain[i + 1] and words[i] != words[i + 1]]


def choose_places(words: Sequence[str]) -> List[int]:
    """About one place in 20 words, at least one if there is any; no pairs overlap."""
    text = " ".join(words)
    wanted = max(1, round(len(words) / WORDS_PER_SWAP))
    chosen: List[int] = []
    for place in sorted(find_places(words), key=lambda place: hash_text(f"{place} {text}")):
        if len(chosen) < wanted and all(abs(place - other) > 1 for other in chosen):
            chosen.append(place)
    return sorted(chosen)


def swap_words(words: Sequence[str]) -> Sentence:
    """The words with the pairs of choose_places swapped, and their tags."""
    swapped, tags = list(words), [OTHER] * len(words)
    for place in choose_places(words):
        swapped[place : place + 2] = words[place + 1], words[place]
        tags[place : place + 2] = FIRST, SECOND
    return Sentence(swapped, tags, [])


def choose_sentences(paragraphs: Iterable[str], limit: int) -> List[Sentence]:
    """At most limit paragraphs of 15 to 30 words, in a mixed order, all with a swapped pair."""
    chosen: List[Sentence] = []
    for text in sorted(set(paragraphs), key=hash_text):
        if len(chosen) == limit:
            break
        words = text.split()
        if SHORTEST <= len(words) <= LONGEST and find_places(words):
            chosen.append(swap_words(words))
    return chosen


def hash_text(text: str) -> bytes:
    """A number that puts texts in an order that is mixed but fixed."""
    return hashlib.md5(text.encode()).digest()
