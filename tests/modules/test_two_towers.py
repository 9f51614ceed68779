"""Two towers see all but the token itself, whatever the attention and the padding."""

import math

import pytest
import torch

from fairseq_electra.modules.two_towers import gather_log_q, noise_logits
from tiny import TINY

PAD = 1
SENTENCE = [0, 5, 6, 7, 8, 9, 10, 2]


def predict(model, tokens):
    padding_mask = tokens.eq(PAD)
    with torch.no_grad():
        return model.generator.eval()(tokens, None, padding_mask, None, model.embeddings)


@pytest.fixture(params=["fused", "reference"])
def model(request, build_model):
    return build_model(
        two_tower_generator=True, attention=request.param, weight_init="fan-in"
    ).eval()


@pytest.mark.parametrize("padding", [0, 3])
def test_a_token_is_predicted_from_all_others_and_not_from_itself(model, padding):
    tokens = torch.tensor([SENTENCE + [PAD] * padding, SENTENCE[::-1] + [PAD] * padding])
    length = len(SENTENCE)
    before = predict(model, tokens)[:, :length]
    assert before.shape == (2, length, 45)
    for place in range(length):
        changed = tokens.clone()
        changed[0, place] = 33
        change = (predict(model, changed)[:, :length] - before).abs().amax(2)
        assert change[0, place] == 0 and change[1].max() == 0
        assert change[0][torch.arange(length) != place].min() > 1e-5


def test_padding_changes_nothing(model):
    rows = [SENTENCE, SENTENCE[:3], [0, 2], SENTENCE[:5]]
    padded = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(row) for row in rows], batch_first=True, padding_value=PAD
    )
    together = predict(model, padded)
    for row, logits in zip(rows, together, strict=True):
        torch.testing.assert_close(logits[: len(row)], predict(model, torch.tensor([row]))[0])


@pytest.mark.parametrize("padding", [0, 3])
def test_both_attentions_agree_with_their_gradients(build_model, padding):
    tokens = torch.tensor([SENTENCE, SENTENCE[: len(SENTENCE) - padding] + [PAD] * padding])
    is_token = tokens.ne(PAD)
    losses, gradients = [], []
    for attention in ("fused", "reference"):
        model = build_model(two_tower_generator=True, attention=attention)
        logits = model.generator(tokens, None, ~is_token, None, model.embeddings)
        loss = logits.log_softmax(2).gather(2, tokens[..., None])[..., 0][is_token].sum()
        loss.backward()
        losses.append(loss.detach())
        gradients.append(
            {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        )
    torch.testing.assert_close(*losses)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def test_picked_positions_are_those_of_all(model):
    tokens, picked = torch.tensor([SENTENCE] * 2), torch.tensor([[3, 1], [6, 0]])
    logits = model.generator(tokens, None, None, picked, model.embeddings)
    every = predict(model, tokens)
    torch.testing.assert_close(logits[:, 0].detach(), every[[0, 1], [3, 6]])
    torch.testing.assert_close(logits[:, 1].detach(), every[[0, 1], [1, 0]])


def test_towers_are_as_wide_as_a_generator_and_share_its_embeddings(build_model):
    plain = build_model()
    towers = build_model(two_tower_generator=True).generator
    sizes = {name: p.shape for name, p in plain.generator.encoder.named_parameters()}
    for tower in towers.encoders:
        assert {name: p.shape for name, p in tower.named_parameters()} == sizes
    assert towers.head.dense.weight.shape == (TINY["embedding_size"], 2 * 16)
    assert towers.embeddings is None
    own = build_model(two_tower_generator=True, embedding_sharing="none").generator
    assert own.embeddings.embed_tokens.weight.shape == (45, 16)


def test_local_start_looks_the_way_that_a_tower_can(build_model):
    """At first the neighbour before a token has nearly all of its attention in one tower."""
    model = build_model(two_tower_generator=True, weight_init="local", **WIDE).eval()
    tokens = torch.arange(4, 24)[None]
    embedded = model.embeddings(tokens)
    for tower, offset in zip(model.generator.encoders, (-1, 1), strict=True):
        attention = tower.layers[0].self_attn
        weights = []

        def attend(q, k, v, attended, p, weights=weights):
            scores = (q @ k.transpose(2, 3) / math.sqrt(q.size(3))).masked_fill(
                ~attended, -math.inf
            )
            weights.append(scores.softmax(3)[0])
            return weights[-1] @ v

        attention.attend = attend
        tower(embedded, None)
        shares = weights[0].diagonal(offset, 1, 2)  # of each head
        assert shares.min() > 0.5


WIDE = {"encoder_embed_dim": 128, "encoder_attention_heads": 2, "embedding_size": 128}


def test_log_odds_of_noise_are_those_of_its_share():
    p_data, q, p = torch.tensor([0.7, 0.2]), torch.tensor([0.1, 0.5]), 0.15
    found = noise_logits(-p_data.log(), q.log(), p).sigmoid()
    torch.testing.assert_close(found, p * q / (p * q + (1 - p) * p_data))


def test_log_probabilities_are_in_float32_and_constant():
    logits = torch.randn(2, 3, 5, dtype=torch.bfloat16, requires_grad=True)
    tokens = torch.tensor([[0, 4, 2], [1, 1, 3]])
    found = gather_log_q(logits, tokens)
    wanted = logits.float().log_softmax(2).gather(2, tokens[..., None])[..., 0]
    torch.testing.assert_close(found, wanted.detach())
    assert not found.requires_grad and found.dtype == torch.float32


@pytest.mark.parametrize("width", [None, 24])
def test_tables_of_their_own_are_as_wide_as_the_option_says(build_model, width):
    """The generator's hidden size is 16."""
    options = {"embedding_sharing": "none", "generator_embedding_size": width}
    model = build_model(two_tower_generator=True, **options)
    assert model.generator.embeddings.embed_tokens.embedding_dim == (width or 16)
    assert predict(model, torch.tensor([SENTENCE])).shape == (1, len(SENTENCE), 45)
