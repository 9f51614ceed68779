"""Multi-head self-attention with one QKV product and one switch: fused kernel or reference."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_electra.modules.dropout import dropout
from fairseq_electra.modules.layout import Layout

ATTENTION_IMPLS = ("fused", "reference")


def reference_attention(q: Tensor, k: Tensor, v: Tensor, attended, p: float) -> Tensor:
    """softmax(q k' / sqrt(width)) v with float32 softmax; arguments as in `fused_attention`."""
    scores = (q / math.sqrt(q.size(-1))) @ k.transpose(-2, -1)  # (B, H, T, T)
    if attended is not None:
        scores = scores.masked_fill(~attended, torch.finfo(scores.dtype).min)
    probs = F.softmax(scores, dim=-1, dtype=torch.float32).type_as(scores)
    return dropout(probs, p) @ v


def is_slow(q: Tensor) -> bool:
    """Whether the kernel's backward pass on the CPU will be slower than the plain products.

    In bf16 it hands each small product, of one head and one block of keys, to oneDNN by itself, and
    describing a product there takes longer than computing it. `reference_attention` has few and
    large ones: a quarter of the time at 64 and at 128 tokens (docs/performance.md).
    """
    return q.dtype == torch.bfloat16 and q.requires_grad


def fused_attention(q: Tensor, k: Tensor, v: Tensor, attended, p: float) -> Tensor:
    """torch's fused kernel where it is the faster one; flash is possible with `attended` None.

    On the CPU the reference is faster with dropout, which the kernel has not (its fallback computes
    bf16 in float32), and where gradients flow in bf16 (see `is_slow`).

    Args:
        q, k, v: (B, H, T, W), H heads of width W.
        attended: bool (B, 1, 1, T), true at positions to attend to; None when nothing is padded.
        p: dropout of the attention weights, 0 outside training.
    """
    if q.device.type == "cpu" and (p > 0 or is_slow(q)):
        return reference_attention(q, k, v, attended, p)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=attended, dropout_p=p)


class SelfAttention(nn.Module):
    """BERT's self-attention without the residual and its LayerNorm, (N, C) -> (N, C)."""

    def __init__(self, hidden: int, heads: int, dropout: float, impl: str = "fused"):
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv_proj = nn.Linear(hidden, 3 * hidden)
        self.out_proj = nn.Linear(hidden, hidden)
        self.attend = fused_attention if impl == "fused" else reference_attention

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        qkv = layout.pad(self.qkv_proj(x)).unflatten(2, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, T, W)
        x = self.attend(q, k, v, layout.attended, self.dropout if self.training else 0.0)
        return self.out_proj(layout.unpad(x.transpose(1, 2)))
