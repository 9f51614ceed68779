"""Mask, sample, corrupt, label: what happens to the tokens around ELECTRA's two networks.

Which positions are picked, and every random number used here, comes with the batch (see
data/pick_dataset.py), so these functions are pure and have static shapes: the same sentence is
corrupted in the same way whatever batch, worker or update it falls into. B sentences of T tokens,
K picked slots a sentence (unused slots: position 0, weight 0), V dictionary entries.
"""

import math
from typing import Tuple, Union

import torch
import torch.nn.functional as F
from torch import Tensor

SAMPLING_BLOCK = 128  # dictionary entries that are first sampled as one


def mask_tokens(src_tokens: Tensor, picked: Tensor, becomes_mask: Tensor, mask_idx: int) -> Tensor:
    """Put `<mask>` at the picked positions (B, K) where `becomes_mask` (B, K) is true.

    A position picked twice (sampling with replacement) is masked if either slot says so.
    """
    num_masks = torch.zeros_like(src_tokens).scatter_add_(1, picked, becomes_mask.to(torch.long))
    return src_tokens.masked_fill(num_masks > 0, mask_idx)  # (B, T)


def choose(weights: Tensor, fraction: Tensor) -> Tuple[Tensor, Tensor]:
    """Choose one entry of each row in proportion to its weight, by inverting the row's sums.

    Args:
        weights: (N, M), not negative, not all zero in a row; any scale.
        fraction: (N,) float64, uniform in (0, 1].

    Returns:
        The chosen entry (N,), whose weight is never zero, and where in that entry's share of
        (0, 1] the fraction fell (N,): again uniform, so that it can choose within the entry.
    """
    cdf = weights.cumsum(-1, dtype=torch.float64)
    target = fraction.unsqueeze(-1) * cdf[:, -1:]
    entry = torch.searchsorted(cdf, target).clamp_(max=weights.size(-1) - 1)  # first cdf >= target
    upper = cdf.gather(1, entry)
    lower = cdf.gather(1, (entry - 1).clamp_(min=0)).masked_fill(entry == 0, 0.0)
    return entry.squeeze(-1), ((target - lower) / (upper - lower)).squeeze(-1)


def lower_temperature(first: float, share: float, decay: float) -> float:
    """The temperature after a share of the training, which falls from `first` towards 1.

    1 + (first - 1) exp(-share / decay), the schedule of Fast-ELECTRA (Dong et al., ICLR 2024); see
    docs/objectives.md.
    """
    return 1.0 + (first - 1.0) * math.exp(-share / decay)


def sample_tokens(
    logits: Tensor, uniform: Tensor, temperature: Union[float, Tensor] = 1.0
) -> Tensor:
    """Draw one token a row from softmax(logits / temperature), without gradient.

    One uniform number a row decides, instead of Gumbel noise for every dictionary entry: the same
    distribution as the authors' argmax(logits / temperature + Gumbel), V times less noise, and no
    draw from the device's generator. The softmax is in float32 and the sums are in float64 whatever
    the logits' type: half-precision sampling is a known bug of other implementations.

    Args:
        logits: (..., V), any floating type; -inf marks entries that must not be drawn.
        uniform: (...), float64 in (0, 1].
        temperature: above 0, a number or a tensor ().

    Returns:
        Token indices (...).
    """
    shape, size = uniform.shape, logits.size(-1)
    with torch.no_grad():
        probs = F.softmax(logits.detach().reshape(-1, size).float() / temperature, dim=-1)
        padded = F.pad(probs, (0, -size % SAMPLING_BLOCK))
        blocks = padded.unflatten(-1, (-1, SAMPLING_BLOCK))  # (N, V / block, block)
        block, fraction = choose(blocks.sum(-1), uniform.reshape(-1))
        entry, _ = choose(blocks[torch.arange(len(blocks), device=block.device), block], fraction)
    # Logits that are not numbers give any index; the loss shall stop the run, not the look-up.
    return (block * SAMPLING_BLOCK + entry).clamp(max=size - 1).view(shape)


def corrupt_tokens(
    src_tokens: Tensor, picked: Tensor, picked_weights: Tensor, sampled_tokens: Tensor
) -> Tensor:
    """Put the generator's samples (B, K) in place of the picked positions of src_tokens (B, T).

    A position picked twice gets the floored mean of its samples, an arbitrary word, as in the
    authors' code (scatter_update in pretrain/pretrain_helpers.py); only sampling positions with
    replacement can do that.
    """
    used = (picked_weights > 0).to(torch.long)
    num_samples = torch.zeros_like(src_tokens).scatter_add_(1, picked, used)
    sample_sum = torch.zeros_like(src_tokens).scatter_add_(1, picked, used * sampled_tokens)
    mean_sample = sample_sum.div(num_samples.clamp(min=1), rounding_mode="floor")
    return torch.where(num_samples > 0, mean_sample, src_tokens)


def label_replaced(src_tokens: Tensor, corrupted_tokens: Tensor) -> Tensor:
    """True (B, T) where a token differs from the original: a right guess counts as original."""
    return corrupted_tokens.ne(src_tokens)
