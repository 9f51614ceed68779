"""Whether the discriminator's features are alive: their mean's share and effective dimensions.

From one matrix of sums that batches and workers add up. Where training collapses, all features move
to their mean, and nothing is learned from then on.
"""

from typing import Dict

import torch
from torch import Tensor


def sum_features(features: Tensor, is_token: Tensor) -> Tensor:
    """Summed products (C + 1, C + 1) float64 of each token's features (B, T, C) and a 1."""
    x = features.detach()[is_token].double()
    x = torch.cat([x, x.new_ones(len(x), 1)], 1)
    return x.T @ x


def compute_feature_metrics(sums: Tensor) -> Dict[str, float]:
    """feature_mean, the share of the mean in the squared norm, and feature_dims.

    The second is the participation ratio of the covariance: the square of the sum of its
    eigenvalues by the sum of their squares, from 1 to C.
    """
    moments = sums.cpu().double() / sums[-1, -1].cpu()
    mean, second = moments[-1, :-1], moments[:-1, :-1]
    covariance = second - mean[:, None] * mean
    return {
        "feature_mean": float(mean.square().sum() / second.trace()),
        "feature_dims": float(covariance.trace() ** 2 / covariance.square().sum()),
    }
