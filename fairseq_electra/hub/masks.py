"""Masked pieces: `<mask>` as typed, the window around what is masked, what fills it as text.

The tokenizer makes no special symbol of text, so `<mask>` is looked for before it reads.
"""

from itertools import accumulate
from typing import TYPE_CHECKING, Callable, Iterable, Iterator, List, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

from fairseq_electra.data.tokenizer import WORD_START, Span
from fairseq_electra.hub.texts import Text, check_text, pad_tokens, run_sorted

if TYPE_CHECKING:
    from fairseq_electra.hub.electra import Electra
    from fairseq_electra.hub.model import HubModel

MASK = "<mask>"
# Takes the place of <mask> when the tokenizer reads: an ideograph that none of them knows. BERT's
# rules keep each ideograph apart, and SentencePiece does not join unknown characters with others.
STAND_IN = "\U0002a6d6"


class Slot(NamedTuple):
    """A part of a text that the model reads at once, and where in it is what is asked about."""

    tokens: List[int]  # with <s> and </s>
    picked: List[int]  # positions among those
    originals: List[int]  # what stood there, if something else stands there now


class Pieces(NamedTuple):
    """What is known of each of the V entries of the dictionary."""

    spellings: List[str]  # as text, " " before those that begin a word; "" of special symbols
    is_text: Tensor  # (V,) bool: holds characters, so that it can fill a mask
    begins: Tensor  # (V,) bool: begins a word
    has_letter: Tensor  # (V,) bool: begins with a letter or digit, not with a sign


def list_pieces(electra: "Electra") -> Pieces:
    """Spellings and kinds of the dictionary's entries; tensors on the CPU."""
    tokenizer, known = electra.tokenizer, set(electra.tokenizer.pieces)
    symbols = electra.dictionary.symbols
    spellings = [tokenizer.spell(symbol) if symbol in known else "" for symbol in symbols]
    return Pieces(
        spellings,
        torch.tensor([bool(spelling.strip()) for spelling in spellings]),
        torch.tensor([symbol in known and tokenizer.begins_word(symbol) for symbol in symbols]),
        torch.tensor([spelling.strip()[:1].isalnum() for spelling in spellings]),
    )


def read_masked(electra: "Electra", text: str) -> Text:
    """A text's pieces and places, each `<mask>` in it read as that symbol.

    Where SentencePiece is the tokenizer, white space before `<mask>` belongs to what fills it.
    """
    check_text(text)
    parts = text.split(MASK)
    ends = accumulate(len(part) for part in parts[:-1])
    places = [end + number for number, end in enumerate(ends)]  # of the stand-ins
    read = electra.read(STAND_IN.join(parts))
    mask, start_mark = electra.dictionary.index(MASK), electra.dictionary.index(WORD_START)
    found: List[Tuple[int, Span]] = []  # numbers and spans
    for number, span in zip(read.numbers, read.spans, strict=True):
        for is_mask, (start, end) in cut_out(span, places):
            if is_mask and found and found[-1] == (mask, (start, end)):
                continue  # a stand-in of several pieces
            if is_mask and found and found[-1] == (start_mark, (start, start)):
                found.pop()
            found.append((mask if is_mask else number, (start, end)))
    spans = [(move(start, places), move(end, places)) for _, (start, end) in found]
    return Text(text, [number for number, _ in found], spans)


def cut_out(span: Span, places: Sequence[int]) -> Iterator[Tuple[bool, Span]]:
    """The parts of a piece's characters that are one of `places`, and the others.

    A piece of unknown characters may hold several.
    """
    start, end = span
    inside = [place for place in places if start <= place < end]
    for place in inside:
        if start < place:
            yield False, (start, place)
        yield True, (place, place + 1)
        start = place + 1
    if start < end or not inside:
        yield False, (start, end)


def move(place: int, stand_ins: Sequence[int]) -> int:
    """A place in a text with stand-ins -> in the text with `<mask>`."""
    return place + (len(MASK) - 1) * sum(stand_in < place for stand_in in stand_ins)


def write_words(text: str, words: Sequence[str]) -> str:
    """A text with words, as `Pieces` spells them, in place of its `<mask>`s.

    White space before `<mask>` goes if a word has none before it; one is added only between two
    letters or digits. All else stays as typed.
    """
    written, *parts = text.split(MASK)
    for word, part in zip(words, parts, strict=True):
        body = written.rstrip()
        if not word.startswith(" "):
            written = (body or written) + word
        elif body == written and body[-1:].isalnum() and word[1:2].isalnum():
            written += word
        else:
            written += word[1:]
        written += part
    return written


def make_slot(
    model: "HubModel", numbers: Sequence[int], first: int, last: int, fill: Sequence[int]
) -> Slot:
    """Pieces `first` to `last` of a text replaced by `fill`, in as much of the text as fits.

    They are in the middle of it, but near the text's ends.
    """
    bos, eos, room = model.dictionary.bos(), model.dictionary.eos(), model.max_tokens - 2
    originals = list(numbers[first:last])
    numbers = [*numbers[:first], *fill, *numbers[last:]]
    start = max(0, min(first + len(fill) // 2 - room // 2, len(numbers) - room))
    picked = [first - start + 1 + place for place in range(len(fill))]
    return Slot([bos, *numbers[start : start + room], eos], picked, originals)


def each_slot(
    model: "HubModel",
    slots: Iterable[Slot],
    compute: Callable[[Tensor, Tensor, List[Slot]], Sequence],
    batch_size: int,
) -> Iterator:
    """What `compute` makes of each slot, in their order.

    Args:
        compute: tokens (B, T), padded, picked positions (B, K), 0 where a slot has fewer, and
            those B slots -> a result for each.
    """

    def run(batch: List[Slot]) -> Sequence:
        picked = pad_tokens([slot.picked for slot in batch], 0, model.device)
        return compute(model.pad([slot.tokens for slot in batch]), picked, batch)

    return run_sorted(slots, lambda slot: len(slot.tokens), run, batch_size)
