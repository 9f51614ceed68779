"""The tagging criterion: loss and accuracy by hand, F1 against seqeval, sums over workers."""

import builtins
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from fairseq.logging import metrics
from seqeval.metrics import f1_score, precision_score, recall_score
from torch import nn

from fairseq_electra.criterions.electra_tagging import ElectraTaggingCriterion
from fairseq_electra.data.tagging_dataset import IGNORED, TaggingDataset
from fairseq_electra.tasks.electra_tagging import HEAD
from tagging_bin import TAGS, make_dictionary, make_sentences, make_tokenizer


class Fixed(nn.Module):
    """A model whose logits (B, T, N) are given for a batch."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, src_tokens, classification_head_name):
        assert classification_head_name == HEAD
        return self.logits, {}


def make_criterion(labels=TAGS):
    task = SimpleNamespace(labels=labels, target_dictionary=None)
    return ElectraTaggingCriterion(None, task)


def make_batches(sizes):
    """Batches of sentences with logits of which about half point to the right tag."""
    tokenizer = make_tokenizer()
    sentences = make_sentences(sum(sizes), seed=5)
    dataset = TaggingDataset(sentences, tokenizer, make_dictionary(tokenizer), TAGS, 30)
    generator = torch.Generator().manual_seed(2)
    start = 0
    for size in sizes:
        sample = dataset.collater([dataset[index] for index in range(start, start + size)])
        start += size
        target = sample["target"]
        logits = torch.randn(*target.shape, len(TAGS), generator=generator)
        logits += 2 * F.one_hot(target.clamp(min=0), len(TAGS))
        yield sample, Fixed(logits)


def reduce(logs):
    with metrics.aggregate(new_root=True) as meters:
        ElectraTaggingCriterion.reduce_metrics(logs)
    return meters.get_smoothed_values()


def test_loss_and_accuracy_by_hand():
    """Two words among four tokens: -log softmax of [0, ln 3] and of [ln 4, 0]."""
    logits = torch.tensor([[[9.0, 0.0], [0.0, 3.0], [5.0, 5.0], [4.0, 1.0]]])
    logits[0, 1, 1], logits[0, 3, 0], logits[0, 3, 1] = torch.tensor([3.0, 4.0, 1.0]).log()
    target = torch.tensor([[IGNORED, 1, IGNORED, 1]])
    sample = {"net_input": {"src_tokens": target}, "target": target}
    sample.update(nwords=2, ntokens=4, nsentences=1)
    loss, sample_size, log = make_criterion(["NN", "VB"])(Fixed(logits).eval(), sample)
    expected = -torch.tensor([3 / 4, 1 / 5]).log().sum()
    assert loss.item() == pytest.approx(expected.item())
    assert sample_size == 2
    scores = reduce([log])
    assert scores["accuracy"] == 0.5
    assert scores["loss"] == pytest.approx(expected.item() / 2, abs=1e-4)
    assert "f1" not in scores


def test_loss_is_float32_in_half_precision():
    ((sample, model),) = make_batches([4])
    model.logits = model.logits.bfloat16()
    loss, _, _ = make_criterion()(model, sample)
    assert loss.dtype == torch.float32


def test_whole_set_scores_are_seqevals():
    """Batches of different sizes; the right tags of every word are those of the sentences."""
    logs, ours, gold = [], [], []
    for sample, model in make_batches([3, 1, 8, 5]):
        logs.append(make_criterion()(model.eval(), sample)[2])
        for row, target in zip(model.logits.argmax(-1), sample["target"]):
            ours.append([TAGS[number] for number in row[target != IGNORED]])
            gold.append([TAGS[number] for number in target[target != IGNORED]])
    assert gold == [sentence.tags for sentence in make_sentences(17, seed=5)]
    scores = reduce(logs)
    assert 0.2 < scores["f1"] < 0.9
    for name, score in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
        assert scores[name] == pytest.approx(score(gold, ours), abs=6e-5), name
    summed = {key: sum(log[key] for log in logs) for key in logs[0]}
    assert ElectraTaggingCriterion.logging_outputs_can_be_summed()
    assert reduce([summed]) == pytest.approx(scores)
    # as fairseq sums them over workers
    tensors = {key: torch.tensor(float(value)).double() for key, value in summed.items()}
    assert reduce([tensors]) == pytest.approx(scores)


def test_training_counts_no_entities():
    """Counting them would wait for the device in every update."""
    ((sample, model),) = make_batches([4])
    _, _, log = make_criterion()(model.train(), sample)
    assert "gold_entities" not in log
    assert "f1" not in reduce([log])


def test_without_seqeval_the_way_out_is_named(monkeypatch):
    original = builtins.__import__

    def without_seqeval(name, *arguments):
        if name.startswith("seqeval"):
            raise ImportError(name)
        return original(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without_seqeval)
    with pytest.raises(ValueError, match=r"pip install '\.\[finetune\]'"):
        make_criterion()
    make_criterion(["NN", "VB"])  # which needs none
