"""Sentences as vectors, the mean of their pieces' features in one layer; cosines of vectors.

In: texts of any length. Out: an array or a tensor with a row for each text, as `encode`,
`similarity` and `similarity_pairwise` of sentence-transformers give them.
"""

import logging
from typing import Iterable, Optional

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

logger = logging.getLogger(__name__)


def embed(
    electra,
    sentences,
    batch_size: int,
    show_progress_bar: Optional[bool] = None,
    normalize_embeddings: bool = False,
    convert_to_tensor: bool = False,
    layer: Optional[int] = None,
):
    """As `Electra.embed`."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more, not {batch_size}")
    layer = find_layer(layer, len(electra.model.encoder.layers))
    is_one = isinstance(sentences, str)
    texts = (
        electra.read(text)
        for text in follow([sentences] if is_one else sentences, show_progress_bar)
    )
    rows = list(
        electra.each_piece(
            texts, lambda tokens: electra.layer_features(tokens, layer), batch_size, average
        )
    )
    width = electra.model.cfg.encoder_embed_dim
    vectors = torch.stack(rows) if rows else torch.empty(0, width)
    if normalize_embeddings:
        vectors = F.normalize(vectors)
    vectors = vectors[0] if is_one else vectors
    return vectors.to(electra.device) if convert_to_tensor else vectors.numpy()


def find_layer(layer: Optional[int], last: int) -> int:
    """The layer that `layer` means, counted from 0, the embeddings.

    None is the middle one, `L // 2` of L layers. Of a model of 4 layers x 128, trained without
    --clm-weight, its cosines rank the pairs of STS-B best (Spearman's correlation with people's
    scores, times 100, layers 0 to 4: dev 60.5, 62.4, 62.9, 60.2, 59.6; train 54.0, 54.3, 54.8,
    51.9, 50.4). That a discriminator's last layer does worse than earlier ones is known of large
    models as well (Rep et al. 2024, arXiv 2402.13130).

    Raises:
        ValueError: if there is no such layer.
    """
    if layer is None:
        return last // 2
    if not -last - 1 <= layer <= last:
        raise ValueError(
            f"no layer {layer}: the model has 0, the embeddings, to {last}; -1 is the last"
        )
    return layer % (last + 1)


def average(features: Tensor) -> Tensor:
    """The mean (C,) of a text's features (P, C); zeros if it has no pieces."""
    return features.sum(0) / max(1, len(features))


def follow(sentences: Iterable[str], show: Optional[bool]) -> Iterable[str]:
    """The sentences, with a progress bar if `show`; for None, if the log is at INFO or lower."""
    if show is None:
        show = logger.isEnabledFor(logging.INFO)
    return tqdm(sentences, desc="Sentences", disable=not show)


def similarity(a, b) -> Tensor:
    """As `Electra.similarity`."""
    a, b = to_rows(a, b)
    return a @ b.T


def similarity_pairwise(a, b) -> Tensor:
    """As `Electra.similarity_pairwise`."""
    a, b = to_rows(a, b)
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} embeddings are not pairs: give as many of both")
    return (a * b).sum(1)


def to_rows(a, b):
    """Embeddings a (n, C) and b (m, C) on a's device, each of length 1; (C,) is taken as (1, C).

    Raises:
        ValueError: if they are not of one size.
    """
    a, b = (torch.as_tensor(given, dtype=torch.float32) for given in (a, b))
    a, b = (
        F.normalize(given[None] if given.dim() == 1 else given) for given in (a, b.to(a.device))
    )
    if a.size(1) != b.size(1):
        raise ValueError(
            f"embeddings of {a.size(1)} and of {b.size(1)} numbers cannot be compared: "
            "make both with one model"
        )
    return a, b
