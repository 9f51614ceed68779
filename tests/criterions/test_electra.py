"""The two means, by hand, however an update is distributed; metrics against scikit-learn."""

import math
from types import SimpleNamespace

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from fairseq.logging import metrics
from hypothesis import given, settings
from omegaconf import OmegaConf
from sklearn.metrics import accuracy_score, precision_score, recall_score, roc_auc_score

from fairseq_electra.criterions.discriminator_metrics import (
    compute_context_auc,
    compute_discriminator_metrics,
    count_logits,
    count_logits_by_token,
)
from fairseq_electra.criterions.electra import (
    JUDGED,
    UNIT,
    ElectraCriterion,
    ElectraCriterionConfig,
)
from fairseq_electra.criterions.feature_metrics import compute_feature_metrics, sum_features
from fairseq_electra.data.pick_dataset import PickDataset
from fairseq_electra.models.electra import ElectraOutput
from fairseq_electra.models.electra_config import ElectraConfig
from tiny import make_dictionary

PAD = 1


def make_criterion(**options):
    task = SimpleNamespace(target_dictionary=make_dictionary())
    return ElectraCriterion(ElectraCriterionConfig(**options), task)


def make_batches(sentences, batch_size, mask_prob=0.3):
    tokens = [torch.tensor(sentence) for sentence in sentences]
    sizes = [len(sentence) for sentence in tokens]
    dataset = PickDataset(tokens, sizes, make_dictionary(), mask_prob, 8)
    items = [dataset[index] for index in range(len(tokens))]
    starts = range(0, len(items), batch_size)
    return [dataset.collater(items[start : start + batch_size]) for start in starts]


class Model:
    """Gives the same output whatever it is asked."""

    cfg = ElectraConfig()

    def __init__(self, output):
        self.output = output

    def __call__(self, **net_input):
        return self.output


def make_hand_batch():
    """Two sentences of 4 and 3 tokens, three picked slots, a vocabulary of 3."""
    gen_logits = torch.log(
        torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]], [[0.2, 0.2, 0.6], [1.0, 1.0, 1.0]]])
    )
    output = ElectraOutput(
        gen_logits=gen_logits,
        gen_targets=torch.tensor([[0, 2], [0, 0]]),
        sampled_tokens=torch.tensor([[0, 1], [2, 0]]),
        masked_tokens=torch.empty(0),
        disc_features=torch.empty(0),
        corrupted_tokens=torch.empty(0),
        is_replaced=torch.tensor([[0, 0, 1, 0], [0, 1, 0, 0]]).bool(),
        disc_logits=torch.tensor([[0.0, -1.0, 2.0, 0.0], [0.0, -3.0, 0.0, 9.0]]),
    )
    sample = {
        "net_input": {
            "src_tokens": torch.tensor([[0, 5, 6, 2], [0, 7, 2, PAD]]),
            "picked": torch.tensor([[1, 2], [1, 0]]),
            "picked_weights": torch.tensor([[1.0, 1.0], [1.0, 0.0]]),
        },
        "ntokens": 7,
        "npicked": 3,
        "nsentences": 2,
    }
    return output, sample


def test_the_loss_of_a_two_by_four_batch_by_hand():
    output, sample = make_hand_batch()
    loss, sample_size, log = make_criterion()(Model(output), sample)

    gen_loss = -(math.log(0.5) + math.log(0.8) + math.log(0.2)) / 3
    original = 4 * math.log(2) + math.log(1 + math.exp(-1))
    replaced = math.log(1 + math.exp(-2)) + math.log(1 + math.exp(3))
    disc_loss = (original + replaced) / 7
    assert sample_size * UNIT == 7
    assert log["gen_loss"].item() / 3 == pytest.approx(gen_loss, rel=1e-6)
    assert log["disc_loss"].item() / 7 == pytest.approx(disc_loss, rel=1e-6)
    assert loss.item() / sample_size == pytest.approx(gen_loss + 50 * disc_loss, rel=1e-6)
    assert (log["masked_acc"].item(), log["sampled_acc"].item()) == (2, 1)


def test_the_discriminator_s_loss_on_picked_tokens_by_hand():
    """As above, of the tokens at 1 and 2 of the first sentence and at 1 of the second."""
    output, sample = make_hand_batch()
    criterion = make_criterion(gen_weight=0, disc_loss_on="picked")
    loss, sample_size, log = criterion(Model(output), sample)
    original, replaced = math.log(1 + math.exp(-1)), math.log(1 + math.exp(-2))
    disc_loss = (original + replaced + math.log(1 + math.exp(3))) / 3
    assert loss.item() / sample_size == pytest.approx(50 * disc_loss, rel=1e-6)
    assert log["disc_loss"].item() / 7 == pytest.approx(disc_loss, rel=1e-6)
    assert log["disc_histogram"].sum(1).tolist() == [1, 2]


def test_weights_of_the_losses(build_model):
    model = build_model()
    (batch,) = make_batches([[0, 5, 6, 7, 8, 9, 2]] * 3, 3)
    losses = {
        weights: make_criterion(gen_weight=weights[0], disc_weight=weights[1])(model, batch)[0]
        for weights in ((1, 0), (0, 1), (2, 10))
    }
    torch.testing.assert_close(losses[2, 10], 2 * losses[1, 0] + 10 * losses[0, 1])


def gradients_of_an_update(model, batches):
    """What fairseq's trainer makes of several batches: summed gradients / summed sample sizes."""
    model.zero_grad()
    total = 0
    for batch in batches:
        loss, sample_size, _ = make_criterion()(model, batch)
        loss.backward()
        total += sample_size
    return {name: p.grad / total for name, p in model.named_parameters()}


def test_gradients_do_not_depend_on_how_sentences_are_batched(build_model):
    """Nothing is injected: the picks and samples are those of training."""
    model = build_model()
    rng = np.random.default_rng(0)
    sentences = [[0, *rng.integers(4, 44, 22), 2] for _ in range(8)]
    whole = gradients_of_an_update(model, make_batches(sentences, 8))
    for batch_size in (4, 3, 1):
        parts = gradients_of_an_update(model, make_batches(sentences, batch_size))
        for name, gradient in whole.items():
            torch.testing.assert_close(parts[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_the_discriminators_mean_is_exact_for_unequal_lengths_too(build_model):
    model = build_model()
    rng = np.random.default_rng(1)
    sentences = [[0, *rng.integers(4, 44, length), 2] for length in (3, 20, 9, 14)]
    sums = []
    for batch_size in (4, 1):
        logs = [make_criterion()(model, batch)[2] for batch in make_batches(sentences, batch_size)]
        sums.append(sum(log["disc_loss"] for log in logs) / sum(log["ntokens"] for log in logs))
    torch.testing.assert_close(*sums)


def test_padding_changes_no_loss(build_model):
    model = build_model()
    short, long = [0, 5, 6, 7, 2], [0, *range(4, 24), 2]
    alone = [make_criterion()(model, make_batches([short], 1)[0])[2]]
    both = make_criterion()(model, make_batches([short, long], 2)[0])[2]
    picked = make_batches([short, long], 1)
    second = make_criterion()(model, picked[1])[2]
    for key in ("gen_loss", "disc_loss", "disc_histogram", "sampled_acc"):
        torch.testing.assert_close(alone[0][key] + second[key], both[key], rtol=1e-5, atol=1e-5)


def test_a_batch_without_candidates_trains_the_discriminator_alone(build_model):
    model = build_model()
    loss, sample_size, log = make_criterion()(model, make_batches([[0, 2]], 1)[0])
    loss.backward()
    assert (sample_size * UNIT, log["npicked"], log["gen_loss"].item()) == (2, 0, 0.0)
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(20, 400), st.floats(0.1, 3.0))
def test_discriminator_metrics_agree_with_scikit_learn(seed, size, deviation):
    rng = np.random.default_rng(seed)
    labels = rng.random(size) < 0.3
    labels[:2] = [False, True]
    logits = rng.normal(labels * 1.0 - 0.5, deviation)
    logits = (np.floor(32 * logits) + 0.5) / 32  # the middles of bins, whatever float32 rounds
    padding = rng.random(size) < 0.2
    padding[:2] = False
    histogram = count_logits(
        torch.tensor(logits)[None], torch.tensor(labels)[None], torch.tensor(~padding)[None]
    )
    ours = compute_discriminator_metrics(histogram)
    labels, logits = labels[~padding], logits[~padding]
    guesses = logits > 0
    assert ours["disc_acc"] == pytest.approx(accuracy_score(labels, guesses))
    assert ours["disc_precision"] == pytest.approx(
        precision_score(labels, guesses, zero_division=0)
    )
    assert ours["disc_recall"] == pytest.approx(recall_score(labels, guesses))
    assert ours["disc_auc"] == pytest.approx(roc_auc_score(labels, logits))
    assert ours["replaced"] == pytest.approx(labels.mean())


def test_auc_is_close_on_many_tokens():
    rng = np.random.default_rng(0)
    labels = rng.random(100_000) < 0.1
    logits = rng.normal(labels * 1.5 - 3, 1.0)
    histogram = count_logits(
        torch.tensor(logits)[None], torch.tensor(labels)[None], torch.ones(1, 100_000).bool()
    )
    auc = compute_discriminator_metrics(histogram)["disc_auc"]
    assert auc == pytest.approx(roc_auc_score(labels, logits), abs=2e-4)


def test_metrics_of_nothing_are_zero():
    assert set(compute_discriminator_metrics(torch.zeros(2, 1024)).values()) == {0.0}


def draw_tokens(depends_on_context: bool):
    """4000 tokens of 5 words: the more seldom a word, the oftener it is replaced."""
    rng = np.random.default_rng(4)
    words = rng.integers(0, 5, 4000)
    replaced = rng.random(4000) < words / 8
    logits = words - 2.5 + (replaced * 1.5 + rng.normal(size=4000) if depends_on_context else 0)
    return torch.tensor(logits)[None], torch.tensor(replaced)[None], torch.tensor(words)[None]


@pytest.mark.parametrize("depends_on_context", [True, False])
def test_the_context_auc_is_that_of_logits_less_their_words_mean(depends_on_context):
    logits, replaced, words = draw_tokens(depends_on_context)
    histogram = count_logits_by_token(logits, replaced, torch.ones_like(replaced), words, 7)
    means = torch.stack([logits[words == word].mean() for word in range(5)])
    expected = roc_auc_score(replaced[0], (logits - means[words])[0]) if depends_on_context else 0.5
    assert compute_context_auc(histogram.to_dense()) == pytest.approx(expected, abs=3e-3)
    plain = compute_discriminator_metrics(count_logits(logits, replaced, replaced | True))
    assert plain["disc_auc"] > expected + 0.02  # it flatters


def test_the_context_auc_of_nothing_and_of_tokens_that_do_not_count():
    logits, replaced, words = draw_tokens(True)
    nothing = count_logits_by_token(logits, replaced, torch.zeros_like(replaced), words, 5)
    assert compute_context_auc(nothing.to_dense()) == 0.0


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_feature_metrics_are_numpys(share):
    torch.manual_seed(0)
    features = torch.randn(3, 50, 6) * torch.tensor([3.0, 1, 1, 1, 0.1, 0.1]) + 40 * share
    is_token = torch.rand(3, 50) < 0.8
    sums = sum_features(features[:1], is_token[:1]) + sum_features(features[1:], is_token[1:])
    found = compute_feature_metrics(sums)
    x = features[is_token].double().numpy()
    eigenvalues = np.linalg.eigvalsh(np.cov(x.T, bias=True))
    dims = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    assert found["feature_dims"] == pytest.approx(dims, rel=1e-6)
    mean = (x.mean(0) ** 2).sum() / (x**2).sum(1).mean()
    assert found["feature_mean"] == pytest.approx(mean, rel=1e-6)


def test_reduced_metrics_are_those_of_all_batches_together(build_model):
    model = build_model()
    rng = np.random.default_rng(2)
    sentences = [[0, *rng.integers(4, 44, length), 2] for length in (3, 20, 9, 14, 5)]
    reduced = []
    criterion = make_criterion().eval()
    for batch_size in (5, 2):
        logs = [criterion(model, batch)[2] for batch in make_batches(sentences, batch_size)]
        with metrics.aggregate(new_root=True) as aggregator:
            ElectraCriterion.reduce_metrics(logs)
            reduced.append(aggregator.get_smoothed_values())
    together, apart = reduced
    names = "loss gen_loss disc_loss masked_acc sampled_acc disc_acc disc_precision disc_recall"
    names += " disc_auc replaced feature_mean feature_dims disc_auc_context"
    assert set(together) == set(names.split())
    for name in set(together) - {"loss"}:  # the total's generator part weighs batches by tokens
        assert apart[name] == pytest.approx(together[name], abs=2e-4), name


def test_an_epoch_without_an_update_has_metrics_of_nothing(build_model):
    """As where all gradients of --fp16 overflow: fairseq reads meters that it has emptied."""
    model, (batch,) = build_model(), make_batches([[0, *range(4, 30), 2]], 1)
    with metrics.aggregate(new_root=True) as meters:
        ElectraCriterion.reduce_metrics([make_criterion()(model, batch)[2]])
        assert meters.get_smoothed_values()["disc_acc"] > 0
        meters.reset()
        found = meters.get_smoothed_values()
    assert found["loss"] is None
    assert {name: found[name] for name in JUDGED} == dict.fromkeys(JUDGED, 0.0)


@pytest.mark.parametrize(
    ("disc_weight", "mlm_updates", "clm_weight"),
    [(50.0, 0, 0), (0.0, 0, 0), (50.0, 2, 0), (0.0, 2, 0), (50.0, 0, 1.0), (50.0, 2, 1.0)],
)
def test_the_metrics_to_choose_checkpoints_by_are_those_of_every_validation(
    build_model, disc_weight, mlm_updates, clm_weight
):
    options = {"mlm_updates": mlm_updates, "clm_weight": clm_weight}
    model, (batch,) = build_model(**options), make_batches([[0, *range(4, 30), 2]], 1)
    weights = OmegaConf.structured(ElectraCriterionConfig(disc_weight=disc_weight))
    cfg = OmegaConf.create({"model": options, "criterion": weights})
    task = SimpleNamespace(target_dictionary=make_dictionary())
    criterion = ElectraCriterion(cfg.criterion, task).eval()
    not_in_both = {"mlm_loss", "mlm_acc"} | ({"clm_loss", "clm_acc"} if mlm_updates else set())
    found = []
    for update in (0, mlm_updates):
        model.set_num_updates(update)
        with metrics.aggregate(new_root=True) as meters:
            ElectraCriterion.reduce_metrics([criterion(model, batch)[2]])
            found.append(set(meters.get_smoothed_values()))
    assert set(criterion.metric_names) == set.intersection(*found) - not_in_both
