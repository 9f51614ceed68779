"""Scores are sums that can be computed by hand; labels are ranked by the discriminator."""

import math

import pytest
import torch

from fairseq_electra.hub.masks import MASK
from fairseq_electra.hub.scores import log_p_data, score_texts, zero_shot

TEXTS = [
    "the cat sees it.",
    "",
    "a small dog wasn't 😀",
    "a dog likes the old bird and it was good. " * 4,
]
KINDS = ["discriminator", "generator", "combined"]


def by_hand(electra, text):
    """The three sums, by one full pass for each masked piece."""
    model, dictionary = electra.model, electra.dictionary
    tokens = electra.encode(text)[None]
    disc_logits, _ = model(tokens, features_only=False)
    sums = dict.fromkeys(KINDS, 0.0)
    for place in range(1, tokens.size(1) - 1):
        masked = tokens.clone()
        masked[0, place] = dictionary.index(MASK)
        every = torch.arange(tokens.size(1))[None]
        logits = model.generator(masked, None, masked.eq(-1), every, model.embeddings)
        q = logits[0, place].softmax(0)[tokens[0, place]].item()
        d = torch.sigmoid(-disc_logits[0, place]).item()
        sums["discriminator"] += math.log(d)
        sums["generator"] += math.log(q)
        sums["combined"] += math.log(d * q / (0.85 / 0.15 * (1 - d) + q))
    return sums


def test_scores_are_the_sums_of_the_formulas(electra):
    wanted = by_hand(electra, "a small dog wasn't 😀")
    for by in KINDS:
        assert electra.score("a small dog wasn't 😀", by) == pytest.approx(wanted[by], abs=1e-4)
        assert electra.score("", by) == 0
    assert electra.score("a small dog wasn't 😀") == electra.score(
        "a small dog wasn't 😀", "discriminator"
    )


def test_a_pair_is_compared(electra):
    for by in KINDS:
        one, other = electra.score(["the cat sees it", "the cat sees a"], by)
        assert electra.compare("the cat sees it", "the cat sees a", by) == pytest.approx(
            one - other
        )


def test_what_the_pair_says_is_the_probability_in_real_text():
    """Of a discriminator that knows both distributions, whatever is masked."""
    p_data, q = torch.tensor([0.7, 0.2, 0.1]), torch.tensor([0.2, 0.3, 0.5])
    for p in (0.15, 0.5):
        original = (1 - p) * p_data + p * p_data * q
        replaced = p * (1 - p_data) * q
        found = log_p_data(torch.log(replaced / original), q.log(), p).exp()
        torch.testing.assert_close(found, p_data)


@pytest.mark.parametrize("by", KINDS)
def test_the_batch_does_not_matter(electra, by):
    one, many = (list(score_texts(electra, TEXTS, by, size)) for size in (1, 64))
    assert one == pytest.approx(many, abs=1e-4)
    assert len(one) == len(TEXTS) and min(one) == one[3]


def test_labels_are_ranked_by_their_pieces(electra):
    """wasn is two pieces, the others are one; the rest of the template is not judged."""
    text, template = "The {bird} was good", "{text} It {{is}}-{label}!"
    found = electra.zero_shot(text, ["wasn", "cat", "TREE"], template)
    means = {}
    for label, size in (("wasn", 2), ("cat", 1), ("TREE", 1)):
        tokens = electra.encode(f"The {{bird}} was good It {{is}}-{label}!")[None]
        logits, _ = electra.model(tokens, features_only=False)
        means[label] = (-logits[0, -2 - size : -2]).sigmoid().mean().item()
    wanted = {label: mean / sum(means.values()) for label, mean in means.items()}
    assert [each["label"] for each in found] == sorted(wanted, key=wanted.get, reverse=True)
    for each in found:
        assert each["score"] == pytest.approx(wanted[each["label"]], abs=1e-5)


def test_a_label_may_come_first(electra):
    """Its own characters are judged, not those of a text that has the same word."""
    found = electra.zero_shot("good", ["good", "bad"], "{label}: {text}")
    values = {}
    for label in ("good", "bad"):
        logits, _ = electra.model(electra.encode(f"{label}: good")[None], features_only=False)
        values[label] = (-logits[0, 1]).sigmoid().item()
    for each in found:
        wanted = values[each["label"]] / sum(values.values())
        assert each["score"] == pytest.approx(wanted, abs=1e-5)


def test_labels_of_a_long_text_are_the_mean_over_its_windows(electra):
    """30 pieces at once: 2 for the template, 28 of the text, half of them twice."""
    text = " ".join(["a", "dog", "likes", "the", "old", "bird", "and", "it", "was", "good"] * 5)
    words = text.split()
    values = {}
    for label in ("good", "bad"):
        parts = [" ".join(words[first : first + 28]) for first in (0, 14, 28)]
        rows = [electra.encode(f"{part} {label}.")[None] for part in parts]
        logits = [electra.model(row, features_only=False)[0] for row in rows]
        values[label] = sum((-row[0, -3]).sigmoid().item() for row in logits)
    for each in electra.zero_shot(text, ["good", "bad"], "{text} {label}."):
        wanted = values[each["label"]] / sum(values.values())
        assert each["score"] == pytest.approx(wanted, abs=1e-5)


def test_batches_of_labels(electra):
    one, many = (
        list(zero_shot(electra, TEXTS, ["good", "bad"], "{text} {label}", size)) for size in (1, 64)
    )
    for ours, theirs in zip(one, many, strict=True):
        ours, theirs = (
            {each["label"]: each["score"] for each in found} for found in (ours, theirs)
        )
        assert ours == pytest.approx(theirs, abs=1e-5)
        assert sum(ours.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("labels", "template", "message"),
    [
        ([], "{text} {label}", "labels must be a list of words or phrases"),
        ("good", "{text} {label}", "labels must be a list of words or phrases"),
        (["good", " "], "{text} {label}", "a label must be a word or phrase, not ' '"),
        (["good", "\x00"], "{text} {label}", "has no characters that the model reads"),
        (["good"], "{text}", "must have {text} and {label}, each once"),
        (["good"], "It is {label}", "must have {text} and {label}, each once"),
        (["good"], "{text} {label} {label}", "must have {text} and {label}, each once"),
        (["good"], "{text} {label} {}", "must have {text} and {label}, each once"),
        (["good"], "{text} {label} {", "write a brace as {{ or }}"),
        (["good"], "{text} {label}" + " a" * 29, "leaves no room for a text"),
    ],
)
def test_what_is_no_template_or_label_is_named(electra, labels, template, message):
    with pytest.raises(ValueError, match=message):
        electra.zero_shot("it", labels, template)


def test_other_scores_are_named(electra, monkeypatch):
    with pytest.raises(ValueError, match="by must be one of discriminator, generator, combined"):
        electra.score("it", by="both")
    monkeypatch.setitem(electra.model._modules, "generator", None)
    with pytest.raises(ValueError, match="score by combined needs the generator"):
        electra.score("it", by="combined")
    monkeypatch.setitem(electra.model._modules, "discriminator_head", None)
    with pytest.raises(ValueError, match="zero_shot needs the discriminator's head"):
        electra.zero_shot("it", ["good"])
