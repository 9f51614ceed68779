"""How well the discriminator tells replaced tokens, from one histogram that workers can sum.

The histogram (2, BINS) counts tokens by label (row 0: original, row 1: replaced) and logit. Its
middle is logit 0, so accuracy, precision and recall are exact; the AUC counts two logits in the
same bin as a tie, which is right to about 1e-3 with bins 0.03 wide.
"""

from typing import Dict

import torch
from torch import Tensor

BINS = 1024
LARGEST_LOGIT = 16.0  # larger ones fall into the outermost bins
TOKEN_BINS, LARGEST_TOKEN_LOGIT = 64, 8.0  # the same of the histogram by token, a quarter wide


def find_bins(logits: Tensor, bins: int, largest: float) -> Tensor:
    """The bin of each logit: so many of equal width from -largest to largest."""
    scaled = (logits.detach().float() / largest + 1.0) * (bins / 2)
    return scaled.long().clamp_(0, bins - 1)


def count_logits(logits: Tensor, is_replaced: Tensor, is_token: Tensor) -> Tensor:
    """Histogram (2, BINS) float64 of the logits (B, T) of tokens that are not padding."""
    bins = find_bins(logits, BINS, LARGEST_LOGIT) + BINS * is_replaced.long()
    counts = torch.zeros(2 * BINS, dtype=torch.float64, device=logits.device)
    return counts.scatter_add_(0, bins.flatten(), is_token.flatten().double()).view(2, BINS)


def compute_discriminator_metrics(histogram: Tensor) -> Dict[str, float]:
    """Accuracy, precision, recall, AUC and share replaced; 0 where nothing can be told."""
    original, replaced = histogram.cpu().double()
    wrong, right = original[BINS // 2 :].sum(), replaced[BINS // 2 :].sum()
    return {
        "disc_acc": _share(original.sum() - wrong + right, histogram.sum()),
        "disc_precision": _share(right, right + wrong),
        "disc_recall": _share(right, replaced.sum()),
        "disc_auc": _auc(original, replaced),
        "replaced": _share(replaced.sum(), histogram.sum()),
    }


def count_logits_by_token(
    logits: Tensor, is_replaced: Tensor, is_token: Tensor, tokens: Tensor, num_tokens: int
) -> Tensor:
    """Histogram (2, V, TOKEN_BINS) float32 of the logits (B, T), by the tokens that are there.

    Sparse, as fairseq-validate keeps those of all batches.
    """
    bins = find_bins(logits, TOKEN_BINS, LARGEST_TOKEN_LOGIT)
    places = torch.stack([is_replaced.long(), tokens, bins])[:, is_token]
    ones = torch.ones(places.size(1), device=logits.device)
    return torch.sparse_coo_tensor(places, ones, (2, num_tokens, TOKEN_BINS)).coalesce()


def compute_context_auc(histogram: Tensor) -> float:
    """AUC of each logit less the mean logit of its token; 0 where nothing can be told.

    The plain AUC flatters: early on the discriminator judges words by how frequent they are, which
    no context is needed for. Of that nothing is left here, and 0.5 is a guess.

    Args:
        histogram: (2, V, TOKEN_BINS), dense.
    """
    histogram = histogram.to_sparse().cpu()
    (label, token, bins), counts = histogram.indices(), histogram.values().double()
    width = 2 * LARGEST_TOKEN_LOGIT / TOKEN_BINS
    logits = (bins + 0.5) * width - LARGEST_TOKEN_LOGIT
    sums, numbers = counts.new_zeros(2, histogram.size(1))
    sums.scatter_add_(0, token, counts * logits)
    numbers.scatter_add_(0, token, counts)
    values, place = (logits - (sums / numbers)[token]).unique(return_inverse=True)
    by_label = counts.new_zeros(2, len(values))
    by_label.view(-1).scatter_add_(0, label * len(values) + place, counts)
    return _auc(*by_label)


def _auc(original: Tensor, replaced: Tensor) -> float:
    """Share of the pairs in which the replaced token has the larger logit, ties counting half.

    Args:
        original, replaced: (N,) counts of tokens by logit, ascending.
    """
    concordant = (replaced * (original.cumsum(0) - original / 2)).sum()
    return _share(concordant, original.sum() * replaced.sum())


def _share(part: Tensor, whole: Tensor) -> float:
    return float(part / whole) if whole > 0 else 0.0
