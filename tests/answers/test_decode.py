"""Beams to texts: against a search over all spans, and by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_electra.answers.decode import (
    HEAD,
    AnswerSpan,
    find_spans,
    join_windows,
    predict_answers,
    rank_spans,
    read_span,
)
from fairseq_electra.data.answer_dataset import AnswerDataset
from fairseq_electra.data.answer_windows import Passage, Window, WindowSizes
from fairseq_electra.data.squad import parse_squad
from fairseq_electra.models.electra import ElectraModel
from fairseq_electra.models.electra_config import ElectraConfig
from fairseq_electra.modules.answer_head import ANSWER_HEADS, AnswerBeam
from squad_bin import list_qas, make_dictionary, make_squad, make_tokenizer
from tiny import TINY

SIZES = WindowSizes(tokens_per_sample=14, doc_stride=3, max_query_length=6)


def make_beam(length: int, scores: np.ndarray) -> AnswerBeam:
    """A beam of all starts and ends of (T, T) span scores."""
    ends = np.broadcast_to(np.arange(length), (length, length))
    return AnswerBeam(np.arange(length), np.zeros(length), ends, scores, np.float32(0))


@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(0, 3))
def test_spans_are_those_that_lie_in_the_passage(seed, length, shift):
    rng = np.random.default_rng(seed)
    total = shift + length + 1  # then comes </s>
    scores = rng.normal(size=(total, total))
    scores[rng.random(scores.shape) < 0.2] = -np.inf
    counts = rng.random(length) < 0.7
    found = find_spans(make_beam(total, scores), counts, first=10, shift=shift)
    expected = {
        (scores[start + shift, end + shift], start + 10, end + 10)
        for start in range(length)
        for end in range(start, length)
        if counts[start] and np.isfinite(scores[start + shift, end + shift])
    }
    assert {tuple(span) for span in found} == expected


def test_a_start_counts_in_the_window_with_most_context():
    """Windows of pieces 0 to 3 and 2 to 5: piece 2 counts in the first, piece 3 in the second."""
    windows = [Window(0, 2, 4), Window(0, 0, 4)]
    beams = [make_beam(5, np.full((5, 5), score)) for score in (2.0, 1.0)]
    spans = join_windows(list(zip(windows, beams)), num_pieces=6, shift=1)
    assert {(span.first, span.score) for span in spans} == {
        *((0, 1.0), (1, 1.0), (2, 1.0)),
        *((3, 2.0), (4, 2.0), (5, 2.0)),
    }


def test_texts_are_the_passage_s_own_and_each_comes_once():
    text = "The  Cat, the cat"
    places = np.array([(0, 3), (5, 8), (8, 9), (10, 13), (14, 17), (17, 17)])
    passage = Passage(text, torch.zeros(6), places)
    spans = [
        *(AnswerSpan(1.0, 1, 2), AnswerSpan(3.0, 0, 1), AnswerSpan(9.0, 5, 5)),
        *(AnswerSpan(2.0, 0, 1), AnswerSpan(2.5, 3, 3)),
    ]
    best = rank_spans(spans, passage, 9)
    assert [(*read_span(span, passage), span.score) for span in best] == [
        *((0, 8, "The  Cat", 3.0), (10, 13, "the", 2.5), (5, 9, "Cat,", 1.0)),
    ]
    assert len(rank_spans(spans, passage, 2)) == 2


def build(build_model, head, squad):
    tokenizer = make_tokenizer()
    dictionary = make_dictionary(tokenizer)
    dataset = AnswerDataset(parse_squad(squad), tokenizer, dictionary, SIZES, to_learn=False)
    model = build_model(dictionary, pretrain=False).eval()
    torch.manual_seed(3)
    model.add_head(HEAD, ANSWER_HEADS[head](32))
    return model, dataset


def search(model, dataset, number, max_length):
    """Best text and score of a question: every span of every window, one start at a time."""
    own = [i for i, window in enumerate(dataset.windows) if window.question == number]
    best, null = None, float("inf")
    passage, shift = dataset.passage_of(number), dataset.passage_start(number)
    for index in own:
        window = dataset.windows[index]
        net_input = dataset.collater([dataset[index]])["net_input"]
        for start in range(shift, shift + window.length):
            contexts = {  # of this start in each window
                i: min(start - shift + window.first - w.first, w.first + w.length - 1 - piece)
                + 0.01 * w.length
                for i in own
                if (w := dataset.windows[i])
                and w.first <= (piece := start - shift + window.first) < w.first + w.length
            }
            if max(contexts, key=contexts.get) != index:
                continue
            logits, _ = model(
                **net_input,
                start_positions=torch.tensor([start]),
                classification_head_name=HEAD,
            )
            if logits.impossible is None:
                starts, ends = logits.start[0], logits.end[0]
            else:
                starts, ends = logits.start[0].log_softmax(-1), logits.end[0].log_softmax(-1)
            for end in range(start, min(start + max_length, shift + window.length)):
                score = (starts[start] + ends[end]).item()
                first, last = (place - shift + window.first for place in (start, end))
                text = passage.text[passage.spans[first, 0] : passage.spans[last, 1]]
                best = max(best, (score, text)) if best else (score, text)
        null_score = starts[0] + ends[0] if logits.impossible is None else logits.impossible
        null = min(null, null_score.item())
    return best, null


@pytest.mark.parametrize("head", ["joint", "linear"])
def test_predictions_agree_with_a_search_over_all_spans(build_model, head):
    model, dataset = build(build_model, head, make_squad(5, seed=4, version="v2.0", words=12))
    assert len(dataset) > 8
    with torch.no_grad():
        predictions = predict_answers(model, dataset, max_answer_length=3, n_best=5)
        for number, question in enumerate(dataset.squad.questions):
            (score, text), null = search(model, dataset, number, max_length=3)
            found = predictions[question.id]
            assert found.answers[0] == (text, pytest.approx(score, abs=1e-5))
            odds = null if head == "joint" else null - score
            assert found.na_prob == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-6)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 100))
def test_answers_are_sorted_short_and_in_the_passage(seed):
    squad = make_squad(3, seed)
    model, dataset = build(make_random_model, "joint", squad)
    predictions = predict_answers(model, dataset, max_answer_length=2, n_best=4)
    contexts = [paragraph["context"] for paragraph in squad["data"][0]["paragraphs"]]
    for qa, context in zip(list_qas(squad), contexts, strict=True):
        answers, na_prob = predictions[qa["id"]]
        assert 1 <= len(answers) <= 4
        scores = [score for _, score in answers]
        assert scores == sorted(scores, reverse=True)
        assert 0 <= na_prob <= 1
        for text, _ in answers:
            assert text in context
            assert len(make_tokenizer().encode(text)) <= 2


def make_random_model(dictionary, pretrain):
    torch.manual_seed(1)
    return ElectraModel(ElectraConfig(**TINY), dictionary, pretrain)


def test_an_empty_passage_has_no_answer(build_model):
    squad = make_squad(2, seed=1)
    squad["data"][0]["paragraphs"][0]["context"] = " "
    model, dataset = build(build_model, "joint", squad)
    predictions = predict_answers(model, dataset, max_answer_length=30, n_best=20)
    assert predictions["q1-0"] == ([], 1.0)
    assert predictions["q1-1"].answers
