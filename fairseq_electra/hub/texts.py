"""Text to tokens and back, windows of long texts, batches of like length.

In: text of any length. Out: per text what a function computes of each token, the same whatever
texts share a batch.
"""

from itertools import islice
from typing import Callable, Iterable, Iterator, List, NamedTuple, Sequence, TypeVar

import torch
from torch import Tensor

from fairseq_electra.data.answer_windows import choose_windows, cut_windows
from fairseq_electra.data.collating import pad_rows
from fairseq_electra.data.tokenizer import Span, Tokenizer

BATCH_TOKENS = 4096  # padding included; more is no faster on a CPU (docs/performance.md)
READ_AHEAD = 64  # batches that are sorted by length together: what memory an endless file takes
Item, Result = TypeVar("Item"), TypeVar("Result")


class Text(NamedTuple):
    """A text as the model reads it."""

    text: str
    numbers: List[int]  # of its pieces in the dictionary, without <s> and </s>
    spans: List[Span]  # (start, end) in characters, of each piece


class Window(NamedTuple):
    """A part of a text that the model reads at once."""

    text: int  # its number
    first: int  # number of its first piece
    tokens: List[int]  # with <s> and </s>


def read_text(text: str, tokenizer: Tokenizer, dictionary) -> Text:
    """A text's pieces and places.

    Raises:
        TypeError: if it is no text.
    """
    check_text(text)
    pieces, spans = tokenizer.encode_with_spans(text)
    return Text(text, [dictionary.index(piece) for piece in pieces], spans)


def check_text(text) -> None:
    """TypeError if it is no text."""
    if not isinstance(text, str):
        raise TypeError(f"a text is a str, not {type(text).__name__}: {text!r:.60}")


def make_windows(number: int, numbers: Sequence[int], most: int, bos: int, eos: int):
    """Windows of a text's pieces: each of at most `most` tokens, half of it in the next as well."""
    room = most - 2
    places = cut_windows(len(numbers), room, max(1, room // 2)) or [(0, 0)]
    return [
        Window(number, first, [bos, *numbers[first : first + length], eos])
        for first, length in places
    ]


def join_windows(windows: List[Window], rows: List[Tensor]) -> Tensor:
    """Rows of a text's pieces (P, ...), each from the window in which it has most context.

    Args:
        rows: of each window's tokens, (T, ...), those of <s> and </s> among them.
    """
    if len(windows) == 1:
        return rows[0][1:-1]
    sizes = [(window.first, len(window.tokens) - 2) for window in windows]
    total = sizes[-1][0] + sizes[-1][1]
    chosen = choose_windows(sizes, total)
    inner = [row[1:-1] for row in rows]
    return torch.stack(
        [inner[window][piece - sizes[window][0]] for piece, window in enumerate(chosen)]
    )


def run_sorted(
    items: Iterable[Item],
    size: Callable[[Item], int],
    run: Callable[[List[Item]], Sequence[Result]],
    batch_size: int,
    batch_tokens: int = BATCH_TOKENS,
) -> Iterator[Result]:
    """What `run` makes of each item, in their order; items of like size share a batch.

    Args:
        size: tokens of an item.
        run: of a batch, in its order.
        batch_size: most items of a batch; in READ_AHEAD of those the items are sorted.
        batch_tokens: most tokens of a batch of several items, padding included.
    """
    items = iter(items)
    while True:
        part = list(islice(items, batch_size * READ_AHEAD))
        if not part:
            return
        results: dict = {}
        order = sorted(range(len(part)), key=lambda place: size(part[place]))
        for batch in split_batches(order, [size(item) for item in part], batch_size, batch_tokens):
            done = run([part[place] for place in batch])
            results.update(zip(batch, done, strict=True))
        for place in range(len(part)):
            yield results.pop(place)


def split_batches(
    order: List[int], sizes: List[int], batch_size: int, batch_tokens: int
) -> Iterator[List[int]]:
    """Batches of items in `order`, which is by size, so that the last of each is its longest."""
    batch: List[int] = []
    for place in order:
        is_full = (len(batch) + 1) * sizes[place] > batch_tokens or len(batch) == batch_size
        if batch and is_full:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def pad_tokens(rows: Sequence[Sequence[int]], pad: int, device) -> Tensor:
    """Tokens (B, T), padded on the right."""
    return pad_rows([torch.tensor(row) for row in rows], pad).to(device)


def one_or_many(given, many: Callable[[Iterable], Iterator], single=str):
    """What `many` makes of one item, of a list (a list), or of any other iterable (an iterator).

    Args:
        single: type, or types, of one item.
    """
    if isinstance(given, single):
        return next(many([given]))
    results = many(given)
    return list(results) if isinstance(given, (list, tuple)) else results
