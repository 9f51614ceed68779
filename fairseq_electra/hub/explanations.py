"""Why a model says so: what each word adds to one of its logits, by integrated gradients.

In: an Electra, a text, and whose logit: a head's, or the discriminator's for one word. Out: an
Explanation, which explanation_page.py shows.

    attribution of a token = sum over c of (x_c - x'_c) * mean over 0 <= a <= 1 of
                             d logit(x' + a (x - x')) / d x_c

x is what the embeddings give (word, position, type, LayerNorm), x' the same with padding in place
of every piece, <s> and </s> as they are; so the attributions sum to logit(x) - logit(x').
Sundararajan et al. 2017 (arXiv 1703.01365), computed by captum's LayerIntegratedGradients.
"""

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

import torch
from torch import Tensor

from fairseq_electra.hub import explanation_page
from fairseq_electra.hub.explained_logits import Logit, choose_logit, encode
from fairseq_electra.hub.texts import BATCH_TOKENS, Text
from fairseq_electra.hub.words import split_words

if TYPE_CHECKING:
    from fairseq_electra.hub.electra import Electra

STEPS = 50  # points of the path at which gradients are taken


class Token(NamedTuple):
    """A piece of a text; `start` and `end` in characters of it."""

    piece: str
    sentence: int  # 0, or 1 in the second text of a pair
    start: int
    end: int
    replaced: Optional[float]  # probability; None without the discriminator's head
    attribution: float  # in the logit's unit


class Word(NamedTuple):
    """A word of a text: tokens `first` to `last`, without the last."""

    text: str
    sentence: int
    start: int
    end: int
    first: int
    last: int
    replaced: Optional[float]  # of its most suspicious piece
    attribution: float  # of its pieces together


@dataclass(frozen=True)
class Explanation:
    """What each token of a text adds to a logit.

    Attributes:
        texts: one, or both of a pair.
        head: None for the discriminator.
        label: whose logit it is; None for the discriminator, or a head that gives one number.
        word: number of the word that is judged; None if the whole text is.
        probability: of the label, or that the word was replaced; None for a number.
        logit: of the text.
        baseline: the same with padding in place of every piece.
        delta: sum of the attributions less (logit - baseline): the error of the numerical integral.
    """

    texts: Tuple[str, ...]
    tokens: Tuple[Token, ...]
    words: Tuple[Word, ...]
    head: Optional[str]
    label: Optional[str]
    word: Optional[int]
    probability: Optional[float]
    logit: float
    baseline: float
    delta: float

    def to_dict(self) -> Dict[str, Any]:
        """All of it for JSON."""
        rows = {
            name: [row._asdict() for row in getattr(self, name)] for name in ("words", "tokens")
        }
        return {**vars(self), "texts": list(self.texts), **rows}

    def __str__(self) -> str:
        return explanation_page.render_text(self)

    def html(self) -> str:
        """A page that needs no other file and runs no script."""
        return explanation_page.render_html(self)

    def _repr_html_(self) -> str:
        return explanation_page.render_frame(self)


def explain(
    electra: "Electra",
    text: Union[str, Tuple[str, str]],
    head: Optional[str] = None,
    label: Optional[str] = None,
    word: Union[int, str, None] = None,
    steps: int = STEPS,
) -> Explanation:
    """What each token adds to a logit; in float32, whatever the model's precision.

    Args:
        text: with a head of sentences, also a pair.
        head: of sentences or tags; None asks the discriminator why a word looks replaced.
        label: whose logit is explained (default: the label that the head predicts).
        word: the one that is judged, itself or its number among the text's words (default: the
            most suspicious one; a head of tags has no default).
        steps: points at which gradients are taken; more make `delta` smaller.

    Raises:
        ValueError: if there is no such head, label or word, the head is of another kind, or a text
            is too long for a head of sentences.
        ImportError: if captum is missing.
    """
    import_captum()  # before anything is computed
    parts = [electra.read(part) for part in (text if isinstance(text, tuple) else (text,))]
    if len(parts) not in (1, 2):
        raise ValueError(f"it is a text or a pair of two, not {len(parts)} texts")
    with compute_in_float32(electra):
        tokens = read_tokens(electra, parts)
        words = join_tokens(tokens, parts)
        with torch.inference_mode(False), torch.enable_grad():
            logit = choose_logit(electra, parts, tokens, words, head, label, word)
            attributions, value, baseline = integrate_gradients(electra, logit, steps)
    for place, attribution in zip(logit.reading.places, attributions, strict=True):
        if place is not None:
            tokens[place] = tokens[place]._replace(attribution=attribution)
    return Explanation(
        texts=tuple(part.text for part in parts),
        tokens=tuple(tokens),
        words=tuple(join_tokens(tokens, parts)),
        head=head,
        label=logit.label,
        word=logit.word,
        probability=logit.probability,
        logit=value,
        baseline=baseline,
        delta=sum(attributions) - (value - baseline),
    )


@contextmanager
def compute_in_float32(electra: "Electra") -> Iterator[None]:
    """Within the block `--precision` is float32, so that probability and logit agree."""
    precision, electra.model.cfg.precision = electra.model.cfg.precision, "float32"
    try:
        yield
    finally:
        electra.model.cfg.precision = precision


def import_captum():
    """captum's LayerIntegratedGradients; ImportError with what to install if it is missing."""
    try:
        from captum.attr import LayerIntegratedGradients
    except ImportError as error:
        raise ImportError(
            f"explain needs captum: pip install fairseq_electra[hub] ({error})"
        ) from error
    return LayerIntegratedGradients


def read_tokens(electra: "Electra", parts: List[Text]) -> List[Token]:
    """The pieces of one or two texts, with their probability of being replaced."""
    replaced: List[List[Optional[float]]] = [[None] * len(part.numbers) for part in parts]
    if electra.model.discriminator_head is not None:
        logits = electra.each_piece(parts, electra.replaced_logits)
        replaced = [row.sigmoid().tolist() for row in logits]
    return [
        Token(electra.dictionary[number], sentence, *span, probability, 0.0)
        for sentence, part in enumerate(parts)
        for number, span, probability in zip(
            part.numbers, part.spans, replaced[sentence], strict=True
        )
    ]


def join_tokens(tokens: List[Token], parts: List[Text]) -> List[Word]:
    """The words of tokens."""
    words: List[Word] = []
    first = 0  # token of this part
    for sentence, part in enumerate(parts):
        for place in split_words(part):
            own = tokens[first + place.first : first + place.last]
            replaced = None if own[0].replaced is None else max(token.replaced for token in own)
            words.append(
                Word(
                    part.text[place.start : place.end],
                    *(sentence, place.start, place.end, first + place.first, first + place.last),
                    *(replaced, sum(token.attribution for token in own)),
                )
            )
        first += len(part.numbers)
    return words


def integrate_gradients(
    electra: "Electra", logit: Logit, steps: int
) -> Tuple[List[float], float, float]:
    """Attributions of tokens (T,), the logit, and the logit with padding in place of pieces."""
    tokens = logit.reading.tokens[None]
    is_piece = torch.tensor([place is not None for place in logit.reading.places])
    baseline = tokens.masked_fill(is_piece.to(tokens.device), electra.dictionary.pad())
    types = electra.mark_types(tokens)  # of the baseline too

    def compute(tokens: Tensor, types: Tensor) -> Tensor:
        return logit.compute(encode(electra, tokens, types))

    attributions = import_captum()(compute, electra.model.embeddings).attribute(
        tokens,
        baseline,
        additional_forward_args=types,
        n_steps=steps,
        internal_batch_size=max(1, BATCH_TOKENS // tokens.size(1)),
    )
    with torch.no_grad():
        value, base = (compute(each, types).item() for each in (tokens, baseline))
    return attributions[0].double().sum(-1).tolist(), value, base
