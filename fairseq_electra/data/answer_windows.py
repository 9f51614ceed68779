"""Questions and passages -> pieces and the windows of a passage that fit beside its question.

The windows, their stride, and which of them a piece counts in are as in the authors' finetune/qa.
"""

from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np
from torch import Tensor

from fairseq_electra.data.squad import Question, Squad
from fairseq_electra.data.tokenizer import Tokenizer

NAMED_SKIPS = 5  # ids in a message


class WindowSizes(NamedTuple):
    """How a passage is cut; all in tokens."""

    tokens_per_sample: int  # most in a window with its question and the specials
    doc_stride: int  # from a window's first piece to the next's
    max_query_length: int  # of a question, the rest is cut


class Passage(NamedTuple):
    """The P pieces of a passage."""

    text: str
    tokens: Tensor  # (P,)
    spans: np.ndarray  # (P, 2) first and past-the-last character


class Window(NamedTuple):
    """Pieces `first` to `first + length` of the passage of a question."""

    question: int
    first: int
    length: int


class Skipped(NamedTuple):
    """A question that cannot be used, and why."""

    id: str
    reason: str


def encode_passage(text: str, tokenizer: Tokenizer, dictionary) -> Passage:
    """A passage in pieces."""
    pieces, spans = tokenizer.encode_with_spans(text)
    return Passage(text, to_tokens(pieces, dictionary), np.array(spans).reshape(-1, 2))


def to_tokens(pieces: List[str], dictionary) -> Tensor:
    """Numbers of pieces in the dictionary, (P,)."""
    return Tensor([dictionary.index(piece) for piece in pieces]).long()


def cut_windows(num_pieces: int, room: int, stride: int) -> List[Tuple[int, int]]:
    """First piece and length of each window; together they have every piece.

    Args:
        room: most pieces in a window.
    """
    windows = []
    first = 0
    while num_pieces > 0:
        length = min(room, num_pieces - first)
        windows.append((first, length))
        if first + length == num_pieces:
            break
        first += min(length, stride)
    return windows


def choose_windows(windows: List[Tuple[int, int]], num_pieces: int) -> np.ndarray:
    """For each piece (P,) the window in which it has most context, the first of equals.

    Context is the smaller number of pieces to the left and right, and a hundredth of the length
    (authors' code, after BERT's). An answer counts only in the window of its first piece.
    """
    pieces = np.arange(num_pieces)
    scores = np.full((len(windows), num_pieces), -1.0)
    for score, (first, length) in zip(scores, windows, strict=True):
        inside = slice(first, first + length)
        left = pieces[inside] - first
        score[inside] = np.minimum(left, length - 1 - left) + 0.01 * length
    return scores.argmax(0) if windows else pieces


def find_answer(question: Question, passage: Passage) -> Optional[Tuple[int, int]]:
    """First and last piece of the first answer; None for an unanswerable question.

    Raises:
        ValueError: if it cannot be learnt from, with the reason.
    """
    if len(passage.tokens) == 0:
        raise ValueError("the passage is empty")
    if not question.text.strip():
        raise ValueError("the question is empty")
    if question.is_impossible:
        return None
    if not question.answers:
        raise ValueError("it has no answer")
    text, start = question.answers[0]
    end = start + len(text)
    if start < 0 or passage.text[start:end] != text:
        raise ValueError(f"the answer {text!r} is not at character {start}")
    touched = (passage.spans[:, 0] < end) & (passage.spans[:, 1] > start)
    touched &= passage.spans[:, 0] < passage.spans[:, 1]  # not a mark of a word's start alone
    (places,) = np.nonzero(touched)
    if len(places) == 0:
        raise ValueError(f"the answer {text!r} has no pieces")
    return int(places[0]), int(places[-1])


def find_answers(
    squad: Squad, passages: Dict[int, Passage]
) -> Tuple[Dict[int, Optional[Tuple[int, int]]], List[Skipped]]:
    """Answers of the questions that can be learnt from, by number, and the others.

    Raises:
        ValueError: if those are the most; names some with the reason.
    """
    found: Dict[int, Optional[Tuple[int, int]]] = {}
    skipped = []
    for number, question in enumerate(squad.questions):
        try:
            found[number] = find_answer(question, passages[question.passage])
        except ValueError as error:
            skipped.append(Skipped(question.id, str(error)))
    if len(skipped) > len(found):
        raise ValueError(f"most questions cannot be learnt from: {describe_skipped(skipped)}")
    return found, skipped


def describe_skipped(skipped: List[Skipped]) -> str:
    """How many, and the first of them with the reason."""
    named = "; ".join(f"{each.id}: {each.reason}" for each in skipped[:NAMED_SKIPS])
    more = "; ..." if len(skipped) > NAMED_SKIPS else ""
    return f"{len(skipped)} questions ({named}{more})"
