"""Heads for answers against plain sums over all spans, and by hand."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_electra.modules.answer_head import (
    JOINT_HIDDEN,
    JointAnswerHead,
    LinearAnswerHead,
    mask_logits,
)

HIDDEN = 6


def make_case(seed: int, length: int, allowed):
    """Features (1, T, C) and where an answer may be (1, T): `<s>`, and `allowed` of the rest."""
    torch.manual_seed(seed)
    can_answer = torch.tensor([[True, *allowed[: length - 1]]])
    return torch.randn(1, length, HIDDEN), can_answer


CASES = st.tuples(
    st.integers(0, 2**31), st.integers(2, 9), st.lists(st.booleans(), min_size=8, max_size=8)
)


def score_joint(head, features, can_answer, start, end) -> float:
    """Log-probability of a span, by the formula, from the concatenation of both features."""
    x, allowed = features[0], can_answer[0].nonzero().flatten().tolist()
    starts = {t: head.start(x[t]).item() for t in allowed}
    ends = {
        t: head.end(F.gelu(head.end_dense(torch.cat([x[start], x[t]])))).item() for t in allowed
    }
    totals = [torch.tensor(list(each.values())).logsumexp(0).item() for each in (starts, ends)]
    return starts[start] + ends[end] - sum(totals)


@given(CASES)
@settings(max_examples=30, deadline=None)
def test_a_full_beam_has_every_span_with_its_probability(case):
    features, can_answer = make_case(*case)
    head = JointAnswerHead(HIDDEN, beam=20)
    with torch.no_grad():
        beam = head(features, can_answer)
        allowed = can_answer[0].nonzero().flatten().tolist()
        expected = {
            (s, e): score_joint(head, features, can_answer, s, e) for s in allowed for e in allowed
        }
    found = collect(beam)
    assert found.keys() == expected.keys()
    for span, score in expected.items():
        assert found[span] == pytest.approx(score, abs=1e-4)
    assert sum(torch.tensor(list(found.values())).exp()) == pytest.approx(1, abs=1e-4)


def collect(beam):
    """The first window's spans that have a score, by (start, end)."""
    found = {}
    for i, start in enumerate(beam.starts[0].tolist()):
        for j, end in enumerate(beam.ends[0, i].tolist()):
            score = (beam.start_scores[0, i] + beam.end_scores[0, i, j]).item()
            if score > -float("inf"):
                assert (start, end) not in found
                found[start, end] = score
    return found


@given(CASES, st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_a_small_beam_has_the_best_starts_and_their_best_ends(case, size):
    features, can_answer = make_case(*case)
    head = JointAnswerHead(HIDDEN, beam=size)
    wide = JointAnswerHead(HIDDEN, beam=20)
    wide.load_state_dict(head.state_dict())
    with torch.no_grad():
        narrow, full = head(features, can_answer), wide(features, can_answer)
    size = min(size, features.size(1))
    torch.testing.assert_close(narrow.start_scores, full.start_scores[:, :size])
    allowed = narrow.start_scores > -float("inf")  # which of the others come is no matter
    assert torch.equal(narrow.starts[allowed], full.starts[:, :size][allowed])
    ends = full.end_scores[:, :size, :size]
    torch.testing.assert_close(narrow.end_scores[allowed], ends[allowed])


@pytest.mark.parametrize("head_class", [JointAnswerHead, LinearAnswerHead])
def test_training_and_prediction_agree(head_class):
    """Given a start, the logits of training order the ends as the beam does."""
    torch.manual_seed(2)
    features = torch.randn(3, 7, HIDDEN)
    can_answer = torch.rand(3, 7) < 0.6
    can_answer[:, 0] = True
    head = head_class(HIDDEN, beam=2)
    with torch.no_grad():
        beam = head(features, can_answer)
        logits = head(features, can_answer, beam.starts[:, 1])
    assert torch.equal(logits.start.argmax(-1), beam.starts[:, 0])
    assert torch.equal(logits.end.argmax(-1), beam.ends[:, 1, 0])
    for part in (logits.start, logits.end):
        assert torch.equal(part.isinf(), ~can_answer)


def test_answerability_by_its_formula():
    """From `<s>` and the mean of the features, weighted by the probability of the start."""
    features, can_answer = make_case(5, 6, [False, True, True, False, True])
    head = JointAnswerHead(HIDDEN)
    with torch.no_grad():
        logits = head(features, can_answer, torch.tensor([2]))
        weights = [
            torch.exp(head.start(features[0, t])).item() if can_answer[0, t] else 0.0
            for t in range(6)
        ]
        mean = sum(w * x for w, x in zip(weights, features[0])) / sum(weights)
        hidden = F.gelu(head.impossible_dense(torch.cat([features[0, 0], mean])))
        expected = head.impossible(hidden)
    torch.testing.assert_close(logits.impossible, expected)
    assert torch.equal(head(features, can_answer).null_scores, logits.impossible)


def test_features_where_no_answer_may_be_change_nothing():
    features, can_answer = make_case(6, 7, [False, True, True, True, False, False])
    changed = features.clone()
    changed[0, ~can_answer[0]] = 1e3
    for head in (JointAnswerHead(HIDDEN), LinearAnswerHead(HIDDEN)):
        with torch.no_grad():
            one, other = (head(x, can_answer, torch.tensor([3])) for x in (features, changed))
            torch.testing.assert_close(one, other)
            one, other = (head(x, can_answer) for x in (features, changed))
        assert collect(one) == pytest.approx(collect(other))
        torch.testing.assert_close(one.null_scores, other.null_scores)


def test_the_linear_head_by_hand():
    head = LinearAnswerHead(2, beam=2)
    with torch.no_grad():
        head.out_proj.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    features = torch.tensor([[[5.0, 4.0], [9.0, 9.0], [1.0, 7.0], [6.0, 3.0]]])
    beam = head(features, torch.tensor([[True, False, True, True]]))
    assert beam.starts.tolist() == [[3, 0]]
    assert beam.start_scores.tolist() == [[6, 5]]
    assert beam.ends.tolist() == [[[2, 0], [2, 0]]]
    assert beam.end_scores.tolist() == [[[7, 4], [7, 4]]]
    assert beam.null_scores.tolist() == [9]
    assert head.score_impossible(9.0, 13.0) == -4
    assert JointAnswerHead(2).score_impossible(9.0, 13.0) == 9


def test_sizes_and_first_weights_are_the_authors():
    """Glorot uniform of the concatenation: 2 C inputs, 512 outputs; zero biases."""
    head = JointAnswerHead(64)
    bound = (6 / (128 + JOINT_HIDDEN)) ** 0.5
    largest = head.end_dense.weight.abs().max().item()
    assert 0.95 * bound < largest <= bound
    assert not any(linear.bias.any() for linear in head.children())
    assert sum(each.numel() for each in head.parameters()) == (64 + 1) + 2 * (
        128 * 512 + 512 + 512 + 1
    )


def test_half_precision_is_judged_in_single():
    logits = mask_logits(torch.tensor([1.0, 2.0]).half(), torch.tensor([True, False]))
    assert logits.dtype == torch.float32
    assert logits.tolist() == [1, -float("inf")]
