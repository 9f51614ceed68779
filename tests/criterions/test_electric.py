"""The loss by hand; energies are log-probabilities where the true distribution is known."""

import math
from types import SimpleNamespace

import pytest
import torch
from fairseq.logging import metrics

from fairseq_electra.criterions.electra import (
    UNIT,
    ElectraCriterionConfig,
    sum_discriminator_loss,
)
from fairseq_electra.criterions.electric import ElectricCriterion
from fairseq_electra.models.electra import ElectraOutput
from fairseq_electra.models.electra_config import ElectraConfig
from fairseq_electra.modules.corruption import corrupt_tokens
from fairseq_electra.modules.two_towers import gather_log_q
from tiny import make_dictionary

PAD, P = 1, 0.3


def make_criterion(mask_prob=P, **options):
    dictionary = make_dictionary()
    task = SimpleNamespace(
        target_dictionary=dictionary,
        source_dictionary=dictionary,
        cfg=SimpleNamespace(mask_prob=mask_prob),
    )
    return ElectricCriterion(ElectraCriterionConfig(**options), task)


class Model:
    """Gives the same output whatever it is asked."""

    cfg = ElectraConfig(two_tower_generator=True)

    def __init__(self, output):
        self.output = output

    def __call__(self, **net_input):
        return self.output


def make_hand_batch():
    """Two sentences of 4 and 3 tokens, three picked; one sample is the original. 8 words."""
    src_tokens = torch.tensor([[0, 5, 6, 7], [0, 7, 2, PAD]])  # no </s> at the end of a block
    picked, weights = torch.tensor([[1, 3], [1, 0]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    sampled = torch.tensor([[5, 4], [6, 0]])
    corrupted = corrupt_tokens(src_tokens, picked, weights, sampled)
    gen_logits = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(1))
    output = ElectraOutput(
        gen_logits=gen_logits,
        gen_targets=src_tokens,
        masked_tokens=src_tokens,
        disc_features=torch.empty(0),
        sampled_tokens=sampled,
        corrupted_tokens=corrupted,
        is_replaced=corrupted.ne(src_tokens),
        disc_logits=torch.tensor([[0.0, 1.0, 2.5, 3.0], [-1.0, 0.5, 2.0, 9.0]]),
        log_q=gather_log_q(gen_logits, corrupted),
    )
    net_input = {"src_tokens": src_tokens, "picked": picked, "picked_weights": weights}
    counts = {"ntokens": 7, "npicked": 3, "ncandidates": 4, "nsentences": 2}
    return output, {"net_input": net_input, **counts}


def log_softmax(row):
    return [value - math.log(sum(map(math.exp, row))) for value in row]


def test_the_loss_of_a_two_by_four_batch_by_hand():
    output, sample = make_hand_batch()
    loss, sample_size, log = make_criterion()(Model(output), sample)

    logits, energies = output.gen_logits.tolist(), output.disc_logits.tolist()
    words = [(0, 1, 5), (0, 2, 6), (0, 3, 7), (1, 1, 7)]  # all but <s>, </s> and padding
    gen_loss = -sum(log_softmax(logits[row][place])[word] for row, place, word in words) / 4
    # sentence, place, what the discriminator reads there, whether that is noise
    tokens = [(0, 0, 0, 0), (0, 1, 5, 1), (0, 2, 6, 0), (0, 3, 4, 1)]
    tokens += [(1, 0, 0, 0), (1, 1, 6, 1), (1, 2, 2, 0)]
    disc_loss = 0
    for row, place, word, is_noise in tokens:
        noise = P * math.exp(log_softmax(logits[row][place])[word])
        data = (1 - P) * math.exp(-energies[row][place])
        disc_loss -= math.log((noise if is_noise else data) / (noise + data)) / 7

    assert sample_size * UNIT == 7
    assert log["gen_loss"].item() / 4 == pytest.approx(gen_loss, rel=1e-5)
    assert log["disc_loss"].item() / 7 == pytest.approx(disc_loss, rel=1e-5)
    assert loss.item() / sample_size == pytest.approx(gen_loss + 50 * disc_loss, rel=1e-5)


def test_metrics_are_of_picked_tokens_and_of_all_words():
    output, sample = make_hand_batch()
    log = make_criterion()(Model(output), sample)[2]
    hits = output.gen_logits.argmax(-1).eq(output.gen_targets)
    with metrics.aggregate(new_root=True) as aggregator:
        ElectricCriterion.reduce_metrics([log, log])
        found = aggregator.get_smoothed_values()
    assert found["replaced"] == pytest.approx(3 / 7, abs=1e-4)
    assert found["sampled_acc"] == pytest.approx(1 / 3, abs=1e-4)
    assert found["masked_acc"] == hits[[0, 0, 0, 1], [1, 2, 3, 1]].float().mean()
    assert found["gen_loss"] == pytest.approx(log["gen_loss"].item() / 4, abs=1e-4)


def test_the_noise_gets_no_gradient_by_the_discriminators_loss(build_model):
    model = build_model(two_tower_generator=True)
    _, sample = make_hand_batch()
    net_input = {**sample["net_input"], "uniform": torch.full((2, 2), 0.5).double()}
    sample["net_input"] = {**net_input, "has_padding": True}
    loss, *_ = make_criterion(gen_weight=0)(model, sample)
    loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in model.generator.parameters())
    assert model.encoder.layers[0].fc1.weight.grad.any()


def list_outcomes(p_data, q, mask_prob):
    """Every pair of words a, b, and what may become of it, as a batch; weights of its tokens.

    Of a picked pair only the picked word counts, so that each is judged beside the clean other.
    q[t]: (V, V), of the word at t, by the other word.
    """
    rows = []
    words = range(len(p_data))
    for a in words:
        for b in words:
            share = p_data[a, b].item()
            clean = (1 - mask_prob) * share
            rows.append(((a, b), 0, 0, 0.0, (clean, clean)))
            for sample in words:
                first, second = (mask_prob * share * q[t][(b, a)[t], sample] for t in (0, 1))
                rows.append(((a, b), 1, sample, 1.0, (first, 0.0)))
                rows.append(((a, b), 2, sample, 1.0, (0.0, second)))
    pairs, picked, samples, weights, counted = (torch.tensor(column) for column in zip(*rows))
    tokens = torch.cat([torch.zeros(len(pairs), 1, dtype=torch.long), 4 + pairs], dim=1)
    net_input = {
        "src_tokens": tokens,
        "picked": picked[:, None],
        "picked_weights": weights[:, None],
    }
    corrupted = corrupt_tokens(tokens, picked[:, None], weights[:, None], 4 + samples[:, None])
    return net_input, corrupted, torch.nn.functional.pad(counted, (1, 0))


@pytest.mark.parametrize("mask_prob", [0.15, 0.5])
def test_energies_are_log_probabilities_of_a_known_language(mask_prob):
    """Sentences <s> a b; one energy for each word beside each other word, free.

    The noise is any distribution, as long as its log-probabilities are exact. Where the expected
    loss is least, exp(-E) is the language's probability of the word beside the other.
    """
    random = torch.Generator().manual_seed(0)
    p_data = torch.rand(4, 4, generator=random).square()
    p_data /= p_data.sum()
    q = [(0.1 + torch.rand(4, 4, generator=random)).log().log_softmax(1).exp() for _ in (0, 1)]
    net_input, corrupted, weights = list_outcomes(p_data, q, mask_prob)
    others = net_input["src_tokens"][:, [2, 1]] - 4  # beside the first and the second word
    words = corrupted[:, 1:] - 4
    log_q = torch.stack([q[t][others[:, t], words[:, t]].log() for t in (0, 1)], dim=1)

    criterion = make_criterion(mask_prob)
    table = torch.zeros(2, 4, 4, requires_grad=True)  # place, other word, word
    nothing = torch.empty(0)

    def expected_loss():
        energies = torch.stack([table[t, others[:, t], words[:, t]] for t in (0, 1)], dim=1)
        output = ElectraOutput(
            *(nothing,) * 4,
            corrupted_tokens=corrupted,
            disc_logits=torch.nn.functional.pad(energies, (1, 0)),
            log_q=torch.nn.functional.pad(log_q, (1, 0)),
        )
        sample = {"net_input": net_input, "ncandidates": 0}
        return sum_discriminator_loss(criterion.ask(Model(output), sample)[0], weights)

    for _ in range(30):  # Newton's steps, at most 1 long: each energy is in losses of its own
        (slope,) = torch.autograd.grad(expected_loss(), table, create_graph=True)
        (curve,) = torch.autograd.grad(slope.sum(), table)
        with torch.no_grad():
            table -= (slope / curve).clamp(-1, 1)
    given_b, given_a = p_data.T / p_data.sum(0)[:, None], p_data / p_data.sum(1)[:, None]
    torch.testing.assert_close(
        (-table).exp().detach(), torch.stack([given_b, given_a]), atol=1e-4, rtol=0
    )


def test_a_loss_of_picked_tokens_alone_is_refused():
    with pytest.raises(ValueError, match="--disc-loss-on picked cannot be used with --criterion"):
        make_criterion(disc_loss_on="picked")


def test_a_generator_alone_is_refused():
    with pytest.raises(ValueError, match="--disc-weight 0 cannot be used with"):
        make_criterion(disc_weight=0.0)


def test_the_loss_of_a_model_that_knows_nothing():
    """10 words, energies of 0: noise has odds of 3/7 x 1/10."""
    chance = 0.3 / 10 / (0.3 / 10 + 0.7)
    wanted = -0.3 * math.log(chance) - 0.7 * math.log(1 - chance)
    assert make_criterion().uninformed_disc_loss(10) == pytest.approx(wanted)
