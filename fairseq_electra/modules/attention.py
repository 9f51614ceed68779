"""Multi-head self-attention with one QKV product and one switch: fused kernel or reference."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ATTENTION_IMPLS = ("fused", "reference")


def reference_attention(q: Tensor, k: Tensor, v: Tensor, attended, dropout: float) -> Tensor:
    """softmax(q k' / sqrt(width)) v with float32 softmax; arguments as in `fused_attention`."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))  # (B, H, T, T)
    if attended is not None:
        scores = scores.masked_fill(~attended, torch.finfo(scores.dtype).min)
    probs = F.softmax(scores.float(), dim=-1).type_as(scores)
    return F.dropout(probs, dropout) @ v


def fused_attention(q: Tensor, k: Tensor, v: Tensor, attended, dropout: float) -> Tensor:
    """torch's fused kernel; with `attended` None it can take its flash implementation.

    Args:
        q, k, v: (B, H, T, W), H heads of width W.
        attended: bool (B, 1, 1, T), true at positions to attend to; None when nothing is padded.
        dropout: on the attention weights, 0 outside training.
    """
    return F.scaled_dot_product_attention(q, k, v, attn_mask=attended, dropout_p=dropout)


class SelfAttention(nn.Module):
    """BERT's self-attention, (B, T, C) -> (B, T, C), without the residual and its LayerNorm."""

    def __init__(self, hidden: int, heads: int, dropout: float, impl: str = "fused"):
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv_proj = nn.Linear(hidden, 3 * hidden)
        self.out_proj = nn.Linear(hidden, hidden)
        self.attend = fused_attention if impl == "fused" else reference_attention

    def forward(self, x: Tensor, attended) -> Tensor:
        batch, length, hidden = x.shape
        qkv = self.qkv_proj(x).view(batch, length, 3, self.heads, hidden // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, T, W)
        x = self.attend(q, k, v, attended, self.dropout if self.training else 0.0)
        return self.out_proj(x.transpose(1, 2).reshape(batch, length, hidden))
