"""Where the tokens of a padded batch lie: one after the other, so that padding costs nothing.

Everything but attention treats each token by itself. So an encoder computes on (N, C), the N tokens
that are no padding, and pads them to (B, T, C) for attention alone.
"""

from typing import NamedTuple, Optional, Sequence

import torch
from torch import Tensor


class Pad(torch.autograd.Function):
    """Rows (N, C) to their places among `rows` rows of zeros."""

    @staticmethod
    def forward(ctx, x: Tensor, places: Tensor, rows: int) -> Tensor:
        ctx.save_for_backward(places)
        return x.new_zeros(rows, x.size(1)).index_copy_(0, places, x)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (places,) = ctx.saved_tensors
        return grad.index_select(0, places), None, None


class Unpad(torch.autograd.Function):
    """The rows at `places`. torch's own backward pass adds row by row, places repeated or not."""

    @staticmethod
    def forward(ctx, x: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.rows = x.size(0)
        return x.index_select(0, places)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (places,) = ctx.saved_tensors
        return grad.new_zeros(ctx.rows, grad.size(1)).index_copy_(0, places, grad), None


class Layout(NamedTuple):
    """B sentences of at most T tokens, N tokens in memory: all B x T, or those at `places`."""

    batch: int
    length: int
    attended: Optional[Tensor] = None  # bool (B, 1, 1, T), false at padding; None: no padding
    places: Optional[Tensor] = None  # (N,) int64, ascending; None: padding is kept

    def pad(self, x: Tensor) -> Tensor:
        """(N, C) -> (B, T, C), zero where there is no token."""
        if self.places is not None:
            x = Pad.apply(x, self.places, self.batch * self.length)
        return x.view(self.batch, self.length, -1)

    def unpad(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (N, C)."""
        x = x.reshape(self.batch * self.length, -1)
        return x if self.places is None else Unpad.apply(x, self.places)


def find_places(lengths: Sequence[int], length: int) -> Tensor:
    """Where the tokens of such sentences lie in a batch padded to `length`: (N,)."""
    return (torch.arange(length) < torch.as_tensor(lengths)[:, None]).flatten().nonzero().squeeze(1)


def lay_out(
    batch: int,
    length: int,
    padding_mask: Optional[Tensor],
    pack: bool,
    places: Optional[Tensor] = None,
) -> Layout:
    """The layout of a batch.

    N is not static, so padding is kept in a compiled step.

    Args:
        padding_mask: bool (B, T), true at padding; None when nothing is padded.
        pack: leave padding out.
        places: see `find_places`; where it is None, counting the tokens makes a GPU wait.
    """
    if padding_mask is None:
        return Layout(batch, length)
    attended = ~padding_mask[:, None, None, :]
    if not pack or torch.compiler.is_compiling():
        return Layout(batch, length, attended)
    if places is None:
        places = (~padding_mask).flatten().nonzero().squeeze(1)
    if len(places) == batch * length:
        return Layout(batch, length)
    return Layout(batch, length, attended, places)
