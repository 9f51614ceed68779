"""`--embedding-sharing gdes`: gradient-disentangled embedding sharing (DeBERTaV3, He et al. 2021).

The discriminator's tables are the generator's plus differences that begin at zero. Its loss moves
the differences alone, the generator's loss the tables that both read. The generator's module owns
its tables; the differences are the discriminator's, which a checkpoint has as `*.delta`. A network
that stands alone, fine-tuned or exported, has their sum.
"""

import copy
import math
from typing import Dict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_electra.modules.encoder import Embeddings

TABLES = ("embed_tokens", "embed_positions", "embed_token_types")
GENERATOR = "generator."


class DisentangledEmbedding(nn.Module):
    """Another table, which gets no gradient from here, plus a difference of the same shape (N, E).

    To those who read it, it is an nn.Embedding.
    """

    def __init__(self, base: nn.Embedding):
        super().__init__()
        self.base = (base,)  # in a tuple it is no part of this module: a checkpoint has it once
        self.num_embeddings, self.embedding_dim = base.weight.shape
        self.delta = nn.Parameter(base.weight.new_zeros(base.weight.shape))

    @property
    def weight(self) -> Tensor:
        """The whole table (N, E)."""
        return self.base[0].weight.detach() + self.delta

    def forward(self, ids: Tensor) -> Tensor:
        """Rows of the table, (...) -> (..., E)."""
        return F.embedding(ids, self.base[0].weight.detach()) + F.embedding(ids, self.delta)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"


class DisentangledEmbeddings(Embeddings):
    """Embeddings over the tables of others; the LayerNorm is its own, and begins as theirs."""

    def __init__(self, base: Embeddings):
        nn.Module.__init__(self)  # not Embeddings', which would draw tables
        for name in TABLES:
            setattr(self, name, DisentangledEmbedding(getattr(base, name)))
        self.base = (base,)
        self.layer_norm = copy.deepcopy(base.layer_norm)

    def begin_as_base(self) -> None:
        """Be the same function as the other embeddings, whose weights were changed."""
        for name in TABLES:
            nn.init.zeros_(getattr(self, name).delta)
        self.layer_norm.load_state_dict(self.base[0].layer_norm.state_dict())


def add_deltas(tensors: Dict[str, Tensor]) -> None:
    """Put the discriminator's tables in place of its differences, where a checkpoint has those."""
    for name in TABLES:
        delta = tensors.pop(f"embeddings.{name}.delta", None)
        if delta is not None:
            table = f"embeddings.{name}.weight"
            tensors[table] = tensors[GENERATOR + table] + delta


def find_delta(table: Tensor, base: Tensor) -> Tensor:
    """What gives `table` when it is added to `base`, to the last bit where there is such a number.

    There is one where the table was such a sum. The rounded difference is it, or its neighbour.
    """
    delta = table - base
    for direction in (-math.inf, math.inf):
        other = delta.nextafter(torch.full_like(delta, direction))
        is_better = (base + delta != table) & (base + other == table)
        delta = torch.where(is_better, other, delta)
    return delta


def take_deltas(tensors: Dict[str, Tensor]) -> None:
    """The reverse of `add_deltas`; a generator without tables of its own gets the shared ones.

    A table that was a sum becomes the same sum again, see `find_delta`. One that never was may be
    off by half of the last bit of the generator's.

    Raises:
        ValueError: if the generator's tables are of another width.
    """
    for name in [name for name in tensors if name.startswith("embeddings.")]:
        tensors.setdefault(GENERATOR + name, tensors[name])
    for name in TABLES:
        table = tensors.pop(f"embeddings.{name}.weight")
        base = tensors[f"{GENERATOR}embeddings.{name}.weight"]
        if base.shape != table.shape:
            raise ValueError(
                "--embedding-sharing gdes needs tables of the same width, but the generator's "
                f"{name} is {base.size(1)} wide, the discriminator's {table.size(1)}"
            )
        tensors[f"embeddings.{name}.delta"] = find_delta(table, base)
