"""Embeddings, `embeddings_project` and post-LayerNorm layers: what both networks are made of.

Sizes and order follow BERT as the authors' model/modeling.py has it: exact GELU, LayerNorm with
epsilon 1e-12, sum of embeddings -> LayerNorm -> dropout -> projection where the sizes differ.
"""

from typing import List, NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fairseq_electra.modules.attention import SelfAttention
from fairseq_electra.modules.dropout import Dropout
from fairseq_electra.modules.layout import Layout, lay_out

LAYER_NORM_EPS = 1e-12
INIT_STD = 0.02


class EncoderSize(NamedTuple):
    """Sizes of one network's encoder."""

    layers: int
    hidden: int
    ffn: int
    heads: int


def init_bert_weights(module: nn.Module) -> None:
    """Truncated normal of std 0.02 (cut at two) for every matrix, zero biases."""
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.trunc_normal_(module.weight, std=INIT_STD, a=-2 * INIT_STD, b=2 * INIT_STD)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def scale_to_fan_in(module: nn.Module) -> None:
    """Raise what `init_bert_weights` drew for a Linear to a std of one over the root of its inputs.

    At 128 inputs that is 0.088. With 0.02 so narrow a layer adds little to what it is given, and
    learning to use the context takes longer.
    """
    if isinstance(module, nn.Linear):
        module.weight.data.mul_(module.in_features**-0.5 / INIT_STD)


def init_glorot(linear: nn.Linear) -> None:
    """Glorot uniform, which the authors' code leaves where it names no initializer."""
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)


class Embeddings(nn.Module):
    """Word, position and token-type tables and their LayerNorm: all of it shared by both networks.

    No row is reserved for padding: padded positions are masked out of attention and losses.
    """

    def __init__(self, num_tokens: int, size: int, max_positions: int, num_token_types: int = 2):
        super().__init__()
        self.embed_tokens = nn.Embedding(num_tokens, size)
        self.embed_positions = nn.Embedding(max_positions, size)
        self.embed_token_types = nn.Embedding(num_token_types, size)
        self.layer_norm = nn.LayerNorm(size, eps=LAYER_NORM_EPS)
        self.apply(init_bert_weights)

    def forward(self, tokens: Tensor, token_types: Optional[Tensor] = None) -> Tensor:
        """Tokens (B, T), and token types (B, T) or None for all 0 -> (B, T, E).

        Raises:
            ValueError: if there are more tokens than positions.
        """
        if tokens.size(1) > self.embed_positions.num_embeddings:
            raise ValueError(
                f"a sentence of {tokens.size(1)} tokens is longer than the model's "
                f"--max-positions {self.embed_positions.num_embeddings}"
            )
        positions = self.embed_positions.weight[: tokens.size(1)]  # (T, E)
        if token_types is None:
            types = self.embed_token_types.weight[0]  # (E,)
        else:
            types = self.embed_token_types(token_types)
        return self.layer_norm(self.embed_tokens(tokens) + positions + types)


class EncoderLayer(nn.Module):
    """One post-LayerNorm transformer layer, (N, C) -> (N, C), N tokens in the given layout."""

    def __init__(self, size: EncoderSize, dropout: float, attention_dropout: float, attention: str):
        super().__init__()
        self.dropout = Dropout(dropout)
        self.self_attn = SelfAttention(size.hidden, size.heads, attention_dropout, attention)
        self.self_attn_layer_norm = nn.LayerNorm(size.hidden, eps=LAYER_NORM_EPS)
        self.fc1 = nn.Linear(size.hidden, size.ffn)
        self.fc2 = nn.Linear(size.ffn, size.hidden)
        self.final_layer_norm = nn.LayerNorm(size.hidden, eps=LAYER_NORM_EPS)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        x = self.self_attn_layer_norm(x + self.dropout(self.self_attn(x, layout)))
        return self.final_layer_norm(x + self.dropout(self.fc2(F.gelu(self.fc1(x)))))


class Encoder(nn.Module):
    """`embeddings_project` where the sizes differ, then the layers; takes embedded tokens.

    Args:
        attention: "fused", which also leaves padding out of all that is computed, or "reference".
        checkpoint_activations: compute each layer again in the backward pass instead of keeping
            what it computed.
    """

    looks = 0  # where a token may look beside itself: both ways, -1 before it, 1 after it alone

    def __init__(
        self,
        size: EncoderSize,
        embedding_size: int,
        dropout: float,
        attention_dropout: float,
        attention: str,
        checkpoint_activations: bool = False,
    ):
        super().__init__()
        self.pack = attention == "fused"
        self.checkpoint_activations = checkpoint_activations
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(size, dropout, attention_dropout, attention) for _ in range(size.layers)
        )
        self.embeddings_project = None
        self.apply(init_bert_weights)
        if embedding_size != size.hidden:
            self.embeddings_project = nn.Linear(embedding_size, size.hidden)
            init_glorot(self.embeddings_project)

    def forward(
        self,
        embedded: Tensor,
        padding_mask: Optional[Tensor],
        hiddens: Optional[List] = None,
        places: Optional[Tensor] = None,
        depth: Optional[int] = None,
    ) -> Tensor:
        """Embedded tokens (B, T, E) -> features (B, T, C); those of padding mean nothing.

        Args:
            padding_mask: bool (B, T), true at padding; None when nothing is padded.
            hiddens: a list that receives the layers' inputs and the last output, L + 1 in all.
            places: (N,) of the tokens in B x T, if they are known, so that nothing waits.
            depth: layers to compute, the first ones (default: all).
        """
        layout = self.lay_out(embedded, padding_mask, places)
        x = self.dropout(layout.unpad(embedded))
        if self.embeddings_project is not None:
            x = self.embeddings_project(x)
        for layer in self.layers if depth is None else self.layers[:depth]:
            if hiddens is not None:
                hiddens.append(layout.pad(x))
            x = self.apply_layer(layer, x, layout)
        x = layout.pad(x)
        if hiddens is not None:
            hiddens.append(x)
        return x

    def lay_out(
        self, embedded: Tensor, padding_mask: Optional[Tensor], places: Optional[Tensor]
    ) -> Layout:
        return lay_out(*embedded.shape[:2], padding_mask, self.pack, places)

    def apply_layer(self, layer: EncoderLayer, x: Tensor, layout: Layout) -> Tensor:
        if self.checkpoint_activations and self.training:
            return checkpoint(layer, x, layout, use_reentrant=False)
        return layer(x, layout)


def gather_positions(features: Tensor, positions: Tensor) -> Tensor:
    """Features (B, T, C) at positions (B, K) -> (B, K, C)."""
    index = positions.unsqueeze(-1).expand(-1, -1, features.size(-1))
    return torch.gather(features, 1, index)
