"""What a checkpoint of --criterion electric does, and what it refuses."""

import math

import pytest
import torch

from fairseq_electra import hub
from fairseq_electra.__main__ import main
from fairseq_electra.hub.scores import list_kinds, score_pieces

TEXT = "a small dog wasn't good"


def by_hand(electric, text):
    """Of each piece its energy, and its log-probability where another word stands in its place."""
    model = electric.model
    tokens = electric.encode(text)[None]
    energies = model(tokens, features_only=False)[0][0, 1:-1]
    log_q = []
    for place in range(1, tokens.size(1) - 1):
        other = tokens.clone()
        other[0, place] = 7
        logits = model.generator(other, None, None, torch.tensor([[place]]), model.embeddings)
        log_q.append(logits[0, 0].log_softmax(0)[tokens[0, place]].item())
    return energies.tolist(), log_q


def test_scores_are_the_sums_of_the_formulas(electric):
    energies, log_q = by_hand(electric, TEXT)
    odds = [0.15 / 0.85 * math.exp(e + q) for e, q in zip(energies, log_q, strict=True)]
    wanted = {
        "electric": -sum(energies),
        "generator": sum(log_q),
        "discriminator": -sum(math.log(1 + each) for each in odds),
    }
    for by, score in wanted.items():
        assert electric.score(TEXT, by) == pytest.approx(score, abs=1e-4)
        assert electric.score("", by) == 0
    assert electric.score(TEXT) == electric.score(TEXT, "electric")
    difference = electric.score(TEXT) - electric.score("it")  # batched otherwise: rounded otherwise
    assert electric.compare(TEXT, "it") == pytest.approx(difference, abs=1e-5)
    # a word is as suspicious as its most suspicious piece: wasn is one of two
    found = electric.replaced(TEXT)
    assert found[1]["score"] == pytest.approx(odds[1] / (1 + odds[1]), abs=1e-5)


def test_several_scores_at_once_are_those_alone(electric):
    kinds = list_kinds(electric)
    assert kinds == ["discriminator", "generator", "electric"]
    (found,) = score_pieces(electric, [electric.read(TEXT)], kinds)
    for kind in kinds:
        assert found[kind].sum().item() == pytest.approx(electric.score(TEXT, kind), abs=1e-4)


def test_a_score_is_one_pass_and_long_texts_are_read_in_windows(electric, monkeypatch):
    calls = []
    ask = electric.model.encoder.forward
    monkeypatch.setattr(
        electric.model.encoder, "forward", lambda *args, **kw: calls.append(1) or ask(*args, **kw)
    )
    electric.score(TEXT)
    assert len(calls) == 1
    assert math.isfinite(electric.score("a dog likes the old bird. " * 20))


def test_a_mask_is_filled_from_what_is_around_it(electric):
    found = electric.fill_mask("a small <mask> was good", topk=3)
    tokens = electric.encode("a small dog was good")[None]  # dog or <mask>: the same
    logits = electric.word_logits(tokens, torch.tensor([[3]]))[0, 0]
    assert found[0][1] == pytest.approx(logits.softmax(0)[electric.pieces.is_text].max().item())


def test_suggestions_are_ranked_by_energies(electric):
    (word,) = electric.proofread("a dog", threshold=0.0)[1:]
    probs = []
    for each in word["suggestions"]:
        tokens = electric.encode(f"a {each['word']}")[None]
        probs.append(-electric.disc_logits(tokens)[0, 2].item())
    assert len(probs) == 5 and probs == sorted(probs, reverse=True)
    first, second = (each["score"] for each in word["suggestions"][:2])
    assert math.log(first / second) == pytest.approx(probs[0] - probs[1], abs=1e-4)


def test_what_it_cannot_do_is_refused(electric, electra):
    with pytest.raises(ValueError, match=r"generate is not for .* --criterion electric trained"):
        electric.generate("a dog")
    with pytest.raises(ValueError, match="score by combined is not for"):
        electric.score(TEXT, "combined")
    with pytest.raises(ValueError, match="an explanation without a head is not for"):
        electric.explain(TEXT)
    with pytest.raises(ValueError, match="gives no energies: score by electric is for"):
        electra.score(TEXT, "electric")


def test_it_says_what_it_is(electric, electra):
    assert "two-tower generator (Electric)" in repr(electric)
    assert "two-tower" not in repr(electra)


def test_packed_it_is_the_same(electric, electric_path, tmp_path):
    main(["pack", str(electric_path), str(tmp_path / "packed")])
    packed = hub.load(tmp_path / "packed")
    assert packed.score(TEXT) == pytest.approx(electric.score(TEXT), abs=0.05)
    state = torch.load(tmp_path / "packed" / "checkpoint.pt", weights_only=False)
    assert state["cfg"]["criterion"]["_name"] == "electric"
    assert state["optimizer_history"][0]["criterion_name"] == "ElectricCriterion"
