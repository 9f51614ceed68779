"""Sentence pairs with token types, gathered from lines of text by the rules of ELECTRA's authors.

In: a fairseq dataset of lines (each ends with `</s>`; a line of `</s>` alone ends a document).
Out: items `<s> a </s> b </s>` or `<s> a </s>`, their token types and, before any token is read,
their sizes.
"""

from array import array
from itertools import chain, repeat
from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Tuple

import numpy as np
import torch
from fairseq.data import Dictionary, FairseqDataset
from torch import Tensor

# Every constant and rule here is that of build_pretraining_dataset.py in the authors' code.
ONE_SEGMENT_RATE = 0.1
RANDOM_LENGTH_RATE = 0.05
SHORTEST_TARGET = 5
ONE_SEGMENT_TARGET = 100_000  # tokens: in effect, no second segment

CHUNK = 1 << 16  # line sizes, and random draws, that are Python objects at one time

NO_TOKEN = np.empty(0, dtype=np.int64)  # a second segment may have no line

Draw = Callable[[], float]  # the next number, uniform in [0, 1)


class PairIndex(NamedTuple):
    """Where the lines of every example are; 12 bytes an example and 1 byte a line."""

    line_bounds: np.ndarray  # (N + 1,) int64: example i is lines line_bounds[i]:line_bounds[i + 1]
    is_second: np.ndarray  # (lines used,) uint8: 1 where the line is of the second segment
    sizes: np.ndarray  # (N,) int32: tokens of each example, specials included


def uniform_draws(seed: int) -> Draw:
    """The source of all random decisions. Draws in blocks, as a numpy call for each is slow."""
    rng = np.random.default_rng(seed)
    return chain.from_iterable(rng.random(CHUNK).tolist() for _ in repeat(None)).__next__


def kept_lengths(first: int, second: int, max_tokens: int) -> Tuple[int, int]:
    """Tokens that trimming leaves of each segment, specials not counted."""
    first = min(first, max_tokens - 2)
    return first, max(0, min(second, max_tokens - first - 3))


def draw_target(max_tokens: int, draw: Draw) -> int:
    """`max_tokens`, or now and then a number from 5 to `max_tokens`."""
    if draw() >= RANDOM_LENGTH_RATE:
        return max_tokens
    return SHORTEST_TARGET + int(draw() * (max_tokens - SHORTEST_TARGET + 1))


def gather_lines(
    lengths: Iterable[int], max_tokens: int, draw: Draw
) -> Iterator[Tuple[List[int], int]]:
    """Yields, example by example, the lengths of its lines and the target it was gathered for.

    Targets count no specials. After each example, also one cut short by the end of its document,
    the next target is drawn.
    """
    target, gathered, lines = max_tokens, 0, []
    for length in lengths:
        # A blank line stays in the list, so that lists and lines stay aligned: it has no token
        # and `assign_segments` never draws for it.
        lines.append(length)
        gathered += length
        if gathered >= target or (gathered and not length):
            yield lines, target
            gathered, lines = 0, []
            target = draw_target(max_tokens, draw)
    if gathered:
        yield lines, target


def assign_segments(lengths: List[int], target: int, draw: Draw) -> Tuple[bytearray, int, int]:
    """Says which lines go to the second segment, and the tokens of both before trimming.

    A line that would fill the first segment opens the second one half of the time. A shorter
    line after it may still go to the first: order is kept within a segment, not over both.
    """
    one_segment = draw() < ONE_SEGMENT_RATE
    first_target = ONE_SEGMENT_TARGET if one_segment else (target - 3) // 2
    first = second = 0
    is_second = bytearray()
    for length in lengths:
        if (
            not first
            or first + length < first_target
            or (not second and first < first_target and draw() < 0.5)
        ):
            first += length
            is_second.append(0)
        else:
            second += length
            is_second.append(1)
    return is_second, first, second


def build_pair_index(line_sizes: np.ndarray, max_tokens: int, draw: Draw) -> PairIndex:
    """Decides every example from the sizes of the lines, each with its `</s>`, alone.

    Each decision depends on the ones before, so this is one plain loop over the lines.
    """
    chunks = (
        (line_sizes[start : start + CHUNK] - 1).tolist()
        for start in range(0, len(line_sizes), CHUNK)
    )
    line_bounds, sizes, is_second = array("q", [0]), array("i"), bytearray()
    for lengths, target in gather_lines(chain.from_iterable(chunks), max_tokens, draw):
        sides, first, second = assign_segments(lengths, target, draw)
        first, second = kept_lengths(first, second, max_tokens)
        is_second += sides
        line_bounds.append(len(is_second))
        sizes.append(first + 2 + (second + 1 if second else 0))
    return PairIndex(
        np.array(line_bounds, dtype=np.int64),
        np.frombuffer(is_second, dtype=np.uint8),
        np.array(sizes, dtype=np.int32),
    )


class SentencePairDataset(FairseqDataset):
    """The authors' examples: two segments of consecutive lines of one document.

    Lines are gathered up to `max_tokens` or the end of the document; one example in ten has one
    segment; one in twenty is gathered up to a random, shorter length. The text of an example that
    is over `max_tokens` is dropped, a tenth of all text for sentences of 25 tokens and items of
    128; longer lines lose more, so give one sentence a line.

    The pairs are fixed by `seed`, the same in every epoch: the authors write their examples once
    and read them again in each epoch, and fairseq need not batch anew. So this dataset ignores
    `set_epoch`.

    Args:
        dataset: lines as fairseq-preprocess writes them, several splits concatenated or one. A
            document ends at a blank line and at the end of the data, not where one split ends.
        line_sizes: (lines,), tokens of each line with its `</s>`.
        dictionary: gives the ids of `<s>` and `</s>`.
        max_tokens: the longest item, specials included (`--tokens-per-sample`).
        seed: of all random decisions.

    Raises:
        ValueError: if `max_tokens` is below 5, or all lines are blank.
    """

    def __init__(
        self,
        dataset: torch.utils.data.Dataset,
        line_sizes: np.ndarray,
        dictionary: Dictionary,
        max_tokens: int,
        seed: int,
    ) -> None:
        super().__init__()
        if max_tokens < SHORTEST_TARGET:
            raise ValueError(
                f"--tokens-per-sample {max_tokens} is too short for sentence pairs: "
                f"give at least {SHORTEST_TARGET}"
            )
        line_sizes = np.asarray(line_sizes)
        assert len(dataset) == len(line_sizes)
        assert line_sizes.min(initial=1) >= 1, "every line ends with </s>"
        self.dataset = dataset
        self.max_tokens = max_tokens
        self.bos, self.eos = dictionary.bos(), dictionary.eos()
        self.index = build_pair_index(line_sizes, max_tokens, uniform_draws(seed))
        if len(self) == 0:
            raise ValueError(
                "the data for sentence pairs holds no line of text: "
                "give fairseq-preprocess a file with text, one sentence a line"
            )

    @property
    def sizes(self) -> np.ndarray:
        """(N,) int32, the exact length of each item."""
        return self.index.sizes

    def size(self, index: int) -> int:
        return int(self.sizes[index])

    def num_tokens(self, index: int) -> int:
        return self.size(index)

    def num_tokens_vec(self, indices: np.ndarray) -> np.ndarray:
        return self.sizes[indices]

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Dict[str, Tensor]:
        """Reads the lines of one example.

        Returns:
            `tokens` and `token_types`, both (sizes[index],) int64; the types are 0 up to and with
            the first `</s>`, then 1.
        """
        segments = [[], [NO_TOKEN]]
        for line in self._lines(index):
            segments[self.index.is_second[line]].append(self.dataset[line].numpy()[:-1])
        first, second = (np.concatenate(pieces) for pieces in segments)
        n_first, n_second = kept_lengths(len(first), len(second), self.max_tokens)
        tokens = np.full(self.sizes[index], self.eos, dtype=np.int64)
        tokens[0] = self.bos
        tokens[1 : n_first + 1] = first[:n_first]
        tokens[n_first + 2 : n_first + 2 + n_second] = second[:n_second]
        token_types = np.zeros_like(tokens)
        token_types[n_first + 2 :] = 1
        return {"tokens": torch.from_numpy(tokens), "token_types": torch.from_numpy(token_types)}

    def _lines(self, index: int) -> range:
        bounds = self.index.line_bounds
        return range(bounds[:-1][index], bounds[1:][index])

    @property
    def supports_prefetch(self) -> bool:
        return getattr(self.dataset, "supports_prefetch", False)

    def prefetch(self, indices: Iterable[int]) -> None:
        """Loads the lines of these examples."""
        self.dataset.prefetch({line for index in indices for line in self._lines(index)})
