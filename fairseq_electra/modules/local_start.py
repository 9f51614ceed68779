"""`--weight-init local`: the lower layers begin by attending to the neighbours.

A new transformer's attention is uniform: of what it mixes, a neighbour is one part in as many as
there are tokens, and a small network with little text learns to look at it late or never. Only
initial values differ here, so everything is learned and converted as before: positions are sines
and cosines in the first dimensions of the tables, and queries of two layers are what keys are,
rotated by an offset.
"""

import math
from typing import List, NamedTuple, Sequence, Tuple

import torch
from torch import Tensor

from fairseq_electra.modules.attention import SelfAttention
from fairseq_electra.modules.encoder import Embeddings, Encoder

LOCAL_LAYERS = 2
MOST_WAVES = 8
FASTEST, SLOWEST = 2.5, 0.07  # radians from one position to the next
PEAK = 12.0  # attention score of the neighbour, before the softmax
WORD_STD = 0.1  # with 0.02, an update at the rates of short runs changes too much of a word
LOUDNESS = 2.8  # amplitude of a wave, in standard deviations of a word's dimension
REST_STD = 0.02  # of what queries and keys have beside the positions


class Waves(NamedTuple):
    """The waves that positions are made of: sine and cosine of each are two dimensions."""

    frequencies: Tensor  # (W,) in radians a position

    @property
    def dims(self) -> int:
        return 2 * len(self.frequencies)

    def at(self, positions: int) -> Tensor:
        """(positions, 2 W), of amplitude 1."""
        angles = torch.arange(positions)[:, None] * self.frequencies
        return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)

    def rotation(self, offset: int) -> Tensor:
        """R (2 W, 2 W) with R at(i) = at(i + offset)."""
        blocks = []
        for angle in (self.frequencies * offset).tolist():
            sine, cosine = math.sin(angle), math.cos(angle)
            blocks.append(torch.tensor([[cosine, sine], [-sine, cosine]]))
        return torch.block_diag(*blocks)


def choose_waves(networks: Sequence[Tuple[Encoder, Embeddings]]) -> Waves:
    """As many waves as the tables, the layers and the heads of all networks have room for.

    Raises:
        ValueError: if there is no room for any.
    """
    rooms = [embeddings.embed_tokens.embedding_dim // 4 for _, embeddings in networks]
    for encoder, _ in networks:
        attention = encoder.layers[0].self_attn
        hidden = attention.qkv_proj.in_features
        rooms += [hidden // 4, hidden // attention.heads // 2]
    number = min(MOST_WAVES, *rooms)
    if number < 1:
        raise ValueError(
            "--weight-init local needs embeddings and layers at least 4 wide, heads at least 2"
        )
    return Waves(FASTEST * (SLOWEST / FASTEST) ** (torch.arange(number) / max(1, number - 1)))


@torch.no_grad()
def start_local(networks: Sequence[Tuple[Encoder, Embeddings]]) -> None:
    """Change the initial weights of encoders, each with its tables, which they may share.

    Raises:
        ValueError: if the heads are too narrow.
    """
    waves = choose_waves(networks)
    for embeddings in dict.fromkeys(embeddings for _, embeddings in networks):
        mark_positions(embeddings, waves)
    for encoder, embeddings in networks:
        attend_to_neighbours(encoder, embeddings, waves)


def mark_positions(embeddings: Embeddings, waves: Waves) -> None:
    """Give the first dimensions of the tables to positions, the others to words; no token types."""
    words, positions = embeddings.embed_tokens.weight, embeddings.embed_positions.weight
    words.mul_(WORD_STD / words.std())
    words[:, : waves.dims] = 0
    positions.zero_()
    positions[:, : waves.dims] = LOUDNESS * WORD_STD * waves.at(len(positions))
    embeddings.embed_token_types.weight.zero_()


def attend_to_neighbours(encoder: Encoder, embeddings: Embeddings, waves: Waves) -> None:
    """Let the heads of the first layers look one position back and ahead, in turn.

    All heads look the one way that the encoder can, if there is but one.

    Nothing is added to the positions' dimensions below the last of these layers.
    """
    dims = waves.dims
    if encoder.embeddings_project is not None:
        weight = encoder.embeddings_project.weight  # (C, E)
        weight[:dims] = 0
        weight[:, :dims] = 0
        weight[:dims, :dims] = torch.eye(dims)
    local = encoder.layers[:LOCAL_LAYERS]
    for layer in local[:-1]:
        layer.self_attn.out_proj.weight[:dims] = 0
        layer.fc2.weight[:dims] = 0
    for index, layer in enumerate(local):
        heads = layer.self_attn.heads
        offsets = [encoder.looks] * heads if encoder.looks else choose_offsets(heads, index)
        set_offsets(
            layer.self_attn, measure_loudness(encoder, embeddings, index, dims), offsets, waves
        )


def choose_offsets(heads: int, layer: int) -> List[int]:
    """-1 and 1 in turn, over the heads, and over the layers where they have one head."""
    return [-1 if (head + (layer if heads == 1 else 0)) % 2 == 0 else 1 for head in range(heads)]


def measure_loudness(encoder: Encoder, embeddings: Embeddings, layer: int, dims: int) -> float:
    """Amplitude of the waves in what the layer is given."""
    positions, words = (
        embeddings.embed_positions.num_embeddings,
        embeddings.embed_tokens.num_embeddings,
    )
    tokens = torch.arange(min(positions, 128))[None] % words
    was_training = encoder.training
    encoder.eval()
    hiddens: List[Tensor] = []
    encoder(embeddings(tokens), None, hiddens)
    encoder.train(was_training)
    return float(hiddens[layer][..., :dims].square().mean().mul(2).sqrt())


def set_offsets(
    attention: SelfAttention, loudness: float, offsets: Sequence[int], waves: Waves
) -> None:
    """Queries rotated by the offset, keys as they are, such that the score there is PEAK."""
    dims, hidden = waves.dims, attention.qkv_proj.in_features
    width = hidden // attention.heads
    weights = attention.qkv_proj.weight.view(3, attention.heads, width, hidden)
    gain = (PEAK * math.sqrt(width) / (loudness**2 * dims / 2)) ** 0.5
    for head, offset in enumerate(offsets):
        for part, matrix in ((0, waves.rotation(offset)), (1, torch.eye(dims))):
            rows = weights[part, head]  # (width, C)
            rows.mul_(REST_STD / rows.std())
            rows[:dims] = 0
            rows[:dims, :dims] = gain * matrix
