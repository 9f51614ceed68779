"""Where heads look after `--weight-init local`, in networks of many shapes, at unseen words."""

import math

import pytest
import torch

from fairseq_electra.models.electra import ElectraModel
from fairseq_electra.models.electra_config import ElectraConfig
from fairseq_electra.modules.local_start import FASTEST, SLOWEST, Waves
from tiny import make_dictionary

TINY = {"encoder_embed_dim": 128, "encoder_ffn_embed_dim": 512, "encoder_attention_heads": 2}
SMALL = {"encoder_embed_dim": 256, "encoder_ffn_embed_dim": 1024, "encoder_attention_heads": 4}
SHAPES = {
    "tiny": {**TINY, "embedding_size": 128, "generator_size": 0.5},
    "small, both projected": {**SMALL, "embedding_size": 128, "generator_size": 0.25},
    "odd widths": {
        **TINY,
        "encoder_embed_dim": 99,
        "encoder_attention_heads": 3,
        "embedding_size": 71,
        "generator_size": 1 / 3,
    },
    "one head, one layer": {
        **TINY,
        "encoder_layers": 1,
        "encoder_attention_heads": 1,
        "embedding_size": 128,
        "generator_size": 1.0,
    },
    "untied": {
        **TINY,
        "embedding_size": 128,
        "generator_size": 0.5,
        "embedding_sharing": "none",
    },
    "gdes": {**TINY, "embedding_size": 128, "generator_size": 0.5, "embedding_sharing": "gdes"},
}


def build(**options):
    torch.manual_seed(0)
    cfg = ElectraConfig(**{"encoder_layers": 3, "weight_init": "local", **options})
    return ElectraModel(cfg, make_dictionary(500), pretrain=True).eval()


def list_networks(model):
    own = model.generator.embeddings
    return [
        (model.encoder, model.embeddings),
        (model.generator.encoder, model.embeddings if own is None else own),
    ]


@torch.no_grad()
def weigh(encoder, embeddings, tokens, layer):
    """Attention weights (B, H, T, T) of a layer."""
    hiddens = []
    encoder(embeddings(tokens), None, hiddens)
    attention = encoder.layers[layer].self_attn
    qkv = attention.qkv_proj(hiddens[layer]).unflatten(2, (3, attention.heads, -1))
    q, k, _ = qkv.permute(2, 0, 3, 1, 4)
    return (q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))).softmax(-1)


def neighbour_weights(encoder, embeddings, tokens, layer):
    """For each head the weights (B, T - 1) of the position that it is to look at."""
    weights = weigh(encoder, embeddings, tokens, layer)
    heads = weights.size(1)
    offsets = [-1 if (head if heads > 1 else layer) % 2 == 0 else 1 for head in range(heads)]
    return [weights[:, h].diagonal(offset, dim1=1, dim2=2) for h, offset in enumerate(offsets)]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_head_of_the_first_layers_looks_at_its_neighbour(shape):
    """At other words than those that the start was made with, at all positions of usual blocks."""
    model = build(**SHAPES[shape])
    tokens = torch.randint(4, 500, (3, 128))
    for encoder, embeddings in list_networks(model):
        for layer in range(min(2, len(encoder.layers))):
            for weights in neighbour_weights(encoder, embeddings, tokens, layer):
                assert weights.median() > 0.8
                # beside what the first layer adds to some words, their positions are faint
                assert weights.flatten().kthvalue(1 + weights.numel() // 20)[0] > 0.5
                assert layer > 0 or weights.min() > 0.5


def test_the_first_layer_does_up_to_the_longest_sentence():
    model = build(**SHAPES["small, both projected"], max_positions=512)
    tokens = torch.randint(4, 500, (1, 512))
    for encoder, embeddings in list_networks(model):
        for weights in neighbour_weights(encoder, embeddings, tokens, 0):
            assert weights.min() > 0.5


def test_attention_of_the_plain_start_and_of_upper_layers_is_uniform():
    """What the test above would see if nothing were done."""
    tokens = torch.randint(4, 500, (1, 128))
    plain = build(**SHAPES["tiny"], weight_init="bert")
    for weights in neighbour_weights(plain.encoder, plain.embeddings, tokens, 0):
        assert weights.max() < 0.05
    local = build(**SHAPES["tiny"])
    for weights in neighbour_weights(local.encoder, local.embeddings, tokens, 2):
        assert weights.median() < 0.1


def test_queries_and_keys_can_learn_more_than_positions():
    """A dimension that is zero in both would have no gradient for ever."""
    model = build(**SHAPES["tiny"])
    attention = model.encoder.layers[0].self_attn
    assert (attention.qkv_proj.weight.abs().sum(1) > 0).all()
    model.encode(torch.randint(4, 500, (2, 16)))[0].square().mul(torch.randn(128)).sum().backward()
    assert (attention.qkv_proj.weight.grad.abs().sum(1) > 0).all()


@pytest.mark.parametrize("offset", [-3, -1, 1, 2])
def test_a_rotation_moves_positions(offset):
    waves = Waves(torch.linspace(FASTEST, SLOWEST, 4))
    there = waves.at(40)
    moved = there[3:37] @ waves.rotation(offset).T
    torch.testing.assert_close(moved, there[3 + offset : 37 + offset], rtol=0, atol=1e-4)


def test_heads_that_are_too_narrow_are_refused():
    narrow = {"encoder_embed_dim": 8, "encoder_ffn_embed_dim": 8, "encoder_attention_heads": 8}
    with pytest.raises(ValueError, match="--weight-init local"):
        build(**narrow, embedding_size=8, generator_size=0.5)


def test_random_numbers_are_not_drawn():
    """The start changes what was drawn; what is drawn afterwards is the same."""
    build(**SHAPES["tiny"], weight_init="fan-in")
    expected = torch.rand(3)
    build(**SHAPES["tiny"])
    assert torch.equal(torch.rand(3), expected)
