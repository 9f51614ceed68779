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


def count_logits(logits: Tensor, is_replaced: Tensor, is_token: Tensor) -> Tensor:
    """Histogram (2, BINS) float64 of the logits (B, T) of tokens that are not padding."""
    scaled = (logits.detach().float() / LARGEST_LOGIT + 1.0) * (BINS / 2)
    bins = scaled.long().clamp_(0, BINS - 1) + BINS * is_replaced.long()
    counts = torch.zeros(2 * BINS, dtype=torch.float64, device=logits.device)
    return counts.scatter_add_(0, bins.flatten(), is_token.flatten().double()).view(2, BINS)


def compute_discriminator_metrics(histogram: Tensor) -> Dict[str, float]:
    """Accuracy, precision, recall, AUC and share replaced; 0 where nothing can be told."""
    original, replaced = histogram.cpu().double()
    wrong, right = original[BINS // 2 :].sum(), replaced[BINS // 2 :].sum()
    # pairs in which the replaced token has the larger logit, ties counting half
    below = original.cumsum(0) - original / 2
    concordant = (replaced * below).sum()
    return {
        "disc_acc": _share(original.sum() - wrong + right, histogram.sum()),
        "disc_precision": _share(right, right + wrong),
        "disc_recall": _share(right, replaced.sum()),
        "disc_auc": _share(concordant, original.sum() * replaced.sum()),
        "replaced": _share(replaced.sum(), histogram.sum()),
    }


def _share(part: Tensor, whole: Tensor) -> float:
    return float(part / whole) if whole > 0 else 0.0
