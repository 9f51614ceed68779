"""The loss of answers by its formula, its gradient's scale, and its metrics as sums."""

from types import SimpleNamespace

import pytest
import torch
from fairseq.logging import metrics

from fairseq_electra.criterions.electra_answers import (
    ElectraAnswersCriterion,
    ElectraAnswersCriterionConfig,
)
from fairseq_electra.modules.answer_head import AnswerLogits


def make_criterion(weight=0.5):
    cfg = ElectraAnswersCriterionConfig(answerable_weight=weight)
    return ElectraAnswersCriterion(cfg, SimpleNamespace(target_dictionary=None))


def make_sample(starts, ends, impossible):
    return {
        "net_input": {"start_positions": torch.tensor(starts)},
        "end_positions": torch.tensor(ends),
        "is_impossible": torch.tensor(impossible),
        "nsentences": len(starts),
        "ntokens": 9,
    }


def run(logits, sample, weight=0.5):
    def model(classification_head_name, **net_input):
        assert classification_head_name == "answer_head"
        return logits, {}

    return make_criterion(weight)(model, sample)


START = [[0.0, 2.0, float("-inf")], [1.0, 0.0, 0.0]]
END = [[0.0, 0.0, float("-inf")], [0.0, 3.0, 1.0]]


def test_the_loss_by_hand():
    logits = AnswerLogits(torch.tensor(START), torch.tensor(END), torch.tensor([-1.0, 2.0]))
    sample = make_sample([1, 0], [0, 2], [0.0, 1.0])
    loss, size, log = run(logits, sample)
    exp = torch.tensor(1.0).exp().item()
    start = torch.tensor([1 + exp**-2, 1 + 2 / exp]).log().sum().item()
    end = torch.tensor([2.0, 1 / exp + exp**2 + 1]).log().sum().item()
    impossible = torch.tensor([1 + exp**-1, 1 + exp**-2]).log().sum().item()
    assert loss.item() == pytest.approx((start + end) / 2 + 0.5 * impossible, rel=1e-5)
    assert size == 2
    assert log["start_loss"] == pytest.approx(start, rel=1e-5)
    assert log["end_loss"] == pytest.approx(end, rel=1e-5)
    assert log["impossible_loss"] == pytest.approx(impossible, rel=1e-5)
    hits = [log[key].item() for key in ("start_acc", "end_acc", "span_acc", "impossible_acc")]
    assert hits == [2, 1, 1, 2]
    sample["is_impossible"] = sample["is_impossible"].half()  # as fairseq's --fp16 does
    assert run(logits, sample, weight=2.0)[0].item() == pytest.approx(
        (start + end) / 2 + 2 * impossible, rel=1e-5
    )


def test_a_head_that_does_not_judge_has_no_such_loss():
    logits = AnswerLogits(torch.tensor(START), torch.tensor(END), None)
    loss, _, log = run(logits, make_sample([1, 0], [0, 2], [0.0, 1.0]))
    assert loss.item() == pytest.approx((log["start_loss"] + log["end_loss"]).item() / 2)
    assert "impossible_loss" not in log
    assert "impossible_acc" not in log


def test_metrics_are_means_over_the_windows_of_all_workers():
    logits = AnswerLogits(torch.tensor(START), torch.tensor(END), torch.tensor([-1.0, 2.0]))
    rows = [
        (AnswerLogits(*(part[i : i + 1] for part in logits)), make_sample(*parts))
        for i, parts in enumerate([([1], [0], [0.0]), ([0], [2], [1.0])])
    ]
    whole = [run(logits, make_sample([1, 0], [0, 2], [0.0, 1.0]))[2]]
    apart = [run(*row)[2] for row in rows]
    seen = []
    for logs in (whole, apart):
        with metrics.aggregate() as aggregator:
            ElectraAnswersCriterion.reduce_metrics(logs)
        seen.append(aggregator.get_smoothed_values())
    assert seen[0] == pytest.approx(seen[1], abs=2e-4)
    assert seen[0]["end_acc"] == 0.5
    assert seen[0]["loss"] == pytest.approx(whole[0]["loss"].item() / 2, abs=1e-4)
