"""Sentences that stand for a text: the first, and central ones that do not repeat others (MMR).

In: a text. Out: some of its sentences, in its order. sentencex tells where sentences end.
"""

from typing import List

import torch
import torch.nn.functional as F
from torch import Tensor

RIDGE = 0.1  # share of the mean variance that each direction has at least
LAYER = 0  # words without their context: the best of all layers, see docs/python.md


def summarize(
    electra, text: str, num_sentences: int, diversity: float, use_first: bool
) -> List[str]:
    """As `Electra.summarize`."""
    if num_sentences < 1:
        raise ValueError(f"num_sentences must be 1 or more, not {num_sentences}")
    if not 0 <= diversity <= 1:
        raise ValueError(f"diversity must be from 0 to 1, not {diversity}")
    sentences = split_sentences(text)
    if len(sentences) <= num_sentences:
        return sentences
    vectors = embed_whitened(electra, sentences)
    chosen = choose_sentences(vectors, num_sentences, diversity, use_first)
    return [sentences[place] for place in sorted(chosen)]


def split_sentences(text: str) -> List[str]:
    """Sentences of a text without the space around them.

    sentencex knows how sentences end in some 300 languages; the abbreviations that do not end one
    are those of English here.

    Raises:
        ImportError: with what to install.
        TypeError: if it is no text.
    """
    if not isinstance(text, str):
        raise TypeError(f"a text is a str, not {type(text).__name__}: {text!r:.60}")
    try:
        import sentencex
    except ImportError:
        raise ImportError("summaries need sentencex: pip install fairseq_electra[hub]") from None
    return [part.strip() for part in sentencex.segment("en", text) if part.strip()]


def embed_whitened(electra, sentences: List[str]) -> Tensor:
    """Means (S, C) of the sentences' pieces, whitened by the covariance of all pieces.

    Plain means of a text's sentences are all alike, since most of what varies between pieces is
    not what the text is about: function words, and positions. Whitening makes all directions count
    the same (Su et al. 2021, arXiv 2103.15316, of a corpus' sentences).
    """
    width = electra.model.cfg.encoder_embed_dim
    number, total = 0, torch.zeros(width).double()
    squares = torch.zeros(width, width).double()
    means = []
    texts = map(electra.read, sentences)
    for rows in electra.each_piece(texts, lambda tokens: electra.layer_features(tokens, LAYER)):
        rows = rows.double()  # (P, C)
        number, total, squares = number + len(rows), total + rows.sum(0), squares + rows.T @ rows
        means.append(rows.sum(0) / max(1, len(rows)))
    mean = total / max(1, number)
    return torch.stack(means) @ root_inverse(squares / max(1, number) - mean.outer(mean))


def root_inverse(covariance: Tensor) -> Tensor:
    """A covariance (C, C) to the power of -1/2, after a ridge that also serves short texts."""
    values, vectors = torch.linalg.eigh(covariance)
    values = values.clamp(min=0) + RIDGE * values.mean() + torch.finfo(values.dtype).tiny
    return vectors / values.sqrt() @ vectors.T


def choose_sentences(
    vectors: Tensor, number: int, diversity: float, use_first: bool = False
) -> List[int]:
    """Places of `number` of the embeddings (S, C), best first, or after that of the first one.

    Maximal marginal relevance (Carbonell and Goldstein 1998): each next one has most of
    `(1 - diversity) * centrality - diversity * redundancy`, where the centrality is the cosine with
    the mean of all and the redundancy the largest cosine with one that is chosen already.
    """
    unit = F.normalize(vectors)
    centrality = unit @ F.normalize(vectors.mean(0), dim=0)  # (S,)
    redundancy = torch.full_like(centrality, -1)
    chosen = [0 if use_first else int(centrality.argmax())]
    while len(chosen) < number:
        redundancy = torch.maximum(redundancy, unit @ unit[chosen[-1]])
        scores = (1 - diversity) * centrality - diversity * redundancy
        scores[chosen] = -torch.inf
        chosen.append(int(scores.argmax()))
    return chosen
