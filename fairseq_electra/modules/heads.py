"""What sits on an encoder: the generator's, the discriminator's, and heads for fine-tuning."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_electra.modules.dropout import Dropout
from fairseq_electra.modules.encoder import LAYER_NORM_EPS, init_bert_weights, init_glorot

USUAL_LOG_ODDS = -1.8  # of a token being replaced, where 15 % are masked


class GeneratorHead(nn.Module):
    """Features (..., C) -> vocabulary logits (..., V) through the word table (V, E)."""

    def __init__(self, hidden: int, embedding_size: int, num_tokens: int):
        super().__init__()
        self.dense = nn.Linear(hidden, embedding_size)
        self.layer_norm = nn.LayerNorm(embedding_size, eps=LAYER_NORM_EPS)
        self.bias = nn.Parameter(torch.zeros(num_tokens))
        self.apply(init_bert_weights)

    def forward(self, features: Tensor, word_table: Tensor) -> Tensor:
        x = self.layer_norm(F.gelu(self.dense(features)))
        return F.linear(x, word_table, self.bias)


class DiscriminatorHead(nn.Module):
    """Features (B, T, C) -> one logit a token (B, T), positive where it looks replaced."""

    def __init__(self, hidden: int):
        super().__init__()
        self.dense = nn.Linear(hidden, hidden)
        self.out_proj = nn.Linear(hidden, 1)
        self.apply(init_bert_weights)
        init_glorot(self.out_proj)

    def start_even(self) -> None:
        """Begin with the usual odds for every token, whatever its features.

        An encoder that has learned something keeps it so. The gradient of one logit has about rank
        one, and what a random head asks for first is to move all features along one direction.
        """
        nn.init.zeros_(self.out_proj.weight)
        nn.init.constant_(self.out_proj.bias, USUAL_LOG_ODDS)

    def forward(self, features: Tensor) -> Tensor:
        return self.out_proj(F.gelu(self.dense(features))).squeeze(-1)


class ClassificationHead(nn.Module):
    """Features (B, T, C) -> class logits (B, N): pooling, dropout and one Linear, as for GLUE.

    Args:
        pooling: "first" takes the features of `<s>`, as the authors; "mean" those of all tokens.
    """

    def __init__(self, hidden: int, num_classes: int, dropout: float, pooling: str = "first"):
        super().__init__()
        self.pooling = pooling
        self.dropout = Dropout(dropout)
        self.out_proj = nn.Linear(hidden, num_classes)
        init_glorot(self.out_proj)

    def forward(self, features: Tensor, padding_mask: Tensor) -> Tensor:
        """`padding_mask`: bool (B, T), true at padding."""
        return self.out_proj(self.dropout(self.pool(features, padding_mask)))

    def pool(self, features: Tensor, padding_mask: Tensor) -> Tensor:
        """(B, C)."""
        if self.pooling == "first":
            return features[:, 0]
        is_token = (~padding_mask).unsqueeze(2)
        return features.masked_fill(~is_token, 0.0).sum(1) / is_token.sum(1)


class TaggingHead(nn.Module):
    """Features (B, T, C) -> tag logits (B, T, N): dropout and one Linear for every token.

    As transformers' ElectraForTokenClassification; the authors' code has no dropout there.

    Args:
        label_fingerprint: of the names of the tags: a checkpoint cannot be read with others.
    """

    def __init__(self, hidden: int, num_tags: int, dropout: float, label_fingerprint: Tensor):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.out_proj = nn.Linear(hidden, num_tags)
        init_glorot(self.out_proj)
        self.register_buffer("label_fingerprint", label_fingerprint)

    def forward(self, features: Tensor) -> Tensor:
        return self.out_proj(self.dropout(features))
