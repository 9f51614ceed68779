"""What ELECTRA did to a sentence, word by word: a stack of original, masked, sampled and judged.

In: Tokens, and the tokenizer that made them. Out: Words, whose rows are runs of styled text, for a
terminal or a page to draw; and counts.
"""

import math
import unicodedata
from collections import Counter
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from fairseq_electra.data.tokenizer import RESERVED, Tokenizer

ROWS = ("original", "masked", "sampled", "judged")
LONE_SPACE = "\u2423"  # stands for a piece without a letter


class Token(NamedTuple):
    """One token and what both networks did with it; pieces are named as in dict.txt."""

    original: str
    is_picked: bool
    is_masked: bool  # the generator saw <mask>
    sample: str  # what the discriminator saw: the original where it was not picked
    logit: float  # of the discriminator, positive for "replaced"

    @property
    def is_replaced(self) -> bool:
        """Whether the sample differs: a right guess replaces nothing."""
        return self.sample != self.original

    @property
    def probability(self) -> float:
        """The discriminator's, that the token was replaced."""
        return (1 + math.tanh(self.logit / 2)) / 2

    @property
    def verdict(self) -> str:
        """found, missed, alarm (false), same (a right guess, believed), "" (left alone, believed).

        Logit 0 counts as "replaced", as in the training metrics.
        """
        judged = self.logit >= 0
        if self.is_replaced:
            return "found" if judged else "missed"
        if judged:
            return "alarm"
        return "same" if self.is_picked else ""


class Piece(NamedTuple):
    """A piece as text."""

    text: str
    starts_word: bool


class Segment(NamedTuple):
    """A run of text in one style, and all that is known of its token, in lines."""

    text: str
    style: str
    story: str


Word = Dict[str, List[Segment]]  # row -> its segments, none where nothing happened


def count_tokens(tokens: Sequence[Token]) -> Counter:
    """How many tokens there are, were picked, masked and replaced, and have each verdict."""
    counts = Counter(token.verdict for token in tokens)
    counts["tokens"] = len(tokens)
    for name in ("picked", "masked", "replaced"):
        counts[name] = sum(getattr(token, f"is_{name}") for token in tokens)
    return counts


def describe_counts(counts: Counter) -> str:
    """The counts in a line."""
    kept, right = counts["picked"] - counts["masked"], counts["picked"] - counts["replaced"]
    alarms = f"{counts['alarm']} false alarm" + "s" * (counts["alarm"] != 1)
    return (
        f"{counts['tokens']} tokens, {counts['picked']} picked ({counts['masked']} masked, {kept} "
        f"left visible), {counts['replaced']} replaced ({right} sampled right): "
        f"{counts['found']} found, {counts['missed']} missed, {alarms}"
    )


def read_piece(piece: str, tokenizer: Optional[Tokenizer]) -> Piece:
    """A piece's text, "" for one without a letter; without a tokenizer every piece is a word."""
    if tokenizer is None or piece in RESERVED:
        return Piece(make_printable(piece), True)
    between = tokenizer.join_words(["a", piece, "a"])[1:-1]
    return Piece(make_printable(between.strip()), between.startswith(" "))


def make_printable(text: str) -> str:
    """The text without control characters, which would steer the terminal."""
    return "".join("\ufffd" if unicodedata.category(char) == "Cc" else char for char in text)


def lay_out_words(tokens: Sequence[Token], tokenizer: Optional[Tokenizer]) -> List[Word]:
    """The stacks of a sentence."""
    return [lay_out_word(word, tokenizer) for word in split_words(tokens, tokenizer)]


def split_words(tokens: Sequence[Token], tokenizer: Optional[Tokenizer]) -> Iterator[List[Token]]:
    """The tokens of each word of the original text."""
    word: List[Token] = []
    for token in tokens:
        after_special = word and word[-1].original in RESERVED
        if word and (after_special or read_piece(token.original, tokenizer).starts_word):
            yield word
            word = []
        word.append(token)
    if word:
        yield word


def lay_out_word(tokens: List[Token], tokenizer: Optional[Tokenizer]) -> Word:
    """One stack; the rows under the original are filled only where something happened."""
    word: Word = {row: [] for row in ROWS}
    any_picked = any(token.is_picked for token in tokens)
    for place, token in enumerate(tokens):
        original, sample = (read_piece(p, tokenizer) for p in (token.original, token.sample))
        story = tell_story(token, original, sample)
        cells = {"original": show_original(token, original)}
        if any_picked:
            cells["masked"] = show_masked(token, original)
            cells["sampled"] = show_sample(token, sample, place == 0)
        if token.verdict:
            gap = " " if word["judged"] else ""
            cells["judged"] = (f"{gap}{token.verdict} {token.probability:.0%}", token.verdict)
        for row, (text, style) in cells.items():
            word[row].append(Segment(text, style, story))
    return word


def show_original(token: Token, piece: Piece) -> Tuple[str, str]:
    """Text and style of the first row."""
    if token.is_picked:
        return piece.text or LONE_SPACE, "picked"
    return piece.text, "special" if token.original in RESERVED else "plain"


def show_masked(token: Token, piece: Piece) -> Tuple[str, str]:
    """Text and style of what the generator read."""
    if token.is_masked:
        return "<mask>", "mask"
    return (f"({piece.text or LONE_SPACE})", "kept") if token.is_picked else (piece.text, "plain")


def show_sample(token: Token, piece: Piece, is_first: bool) -> Tuple[str, str]:
    """Text and style of what the discriminator read, in the first or a later place of a word."""
    if not token.is_picked:
        return piece.text, "plain"
    text = piece.text or LONE_SPACE
    if not token.is_replaced:
        return text, "same"
    if piece.starts_word and not is_first:
        text = f" {text}"
    elif is_first and not piece.starts_word and text[0].isalnum():
        text = f"\u2026{text}"  # an ellipsis: it goes on with the word before
    return text, "replaced"


def tell_story(token: Token, original: Piece, sample: Piece) -> str:
    """What happened to a token, in lines."""
    lines = [f"original: {original.text or LONE_SPACE}"]
    if token.is_picked:
        lines.append("masked" if token.is_masked else "picked, left visible")
        lines.append(f"sampled: {sample.text or LONE_SPACE}")
    verdict = f" ({token.verdict})" if token.verdict else ""
    return "\n".join([*lines, f"probability of being replaced: {token.probability:.1%}{verdict}"])
