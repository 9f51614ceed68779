"""Windows: every piece in one, stride, answers at their positions, batches; questions left out."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_electra.data.answer_dataset import AnswerDataset
from fairseq_electra.data.answer_windows import WindowSizes, choose_windows, cut_windows
from fairseq_electra.data.squad import parse_squad
from squad_bin import list_qas, make_dictionary, make_squad, make_tokenizer

SIZES = WindowSizes(tokens_per_sample=16, doc_stride=4, max_query_length=6)


def build(squad, to_learn=True, sizes=SIZES):
    tokenizer = make_tokenizer()
    dictionary = make_dictionary(tokenizer)
    return AnswerDataset(parse_squad(squad), tokenizer, dictionary, sizes, to_learn)


@given(st.integers(0, 60), st.integers(1, 20), st.integers(1, 20))
def test_windows_have_every_piece_and_start_a_stride_apart(num_pieces, room, stride):
    windows = cut_windows(num_pieces, room, stride)
    covered = {piece for first, length in windows for piece in range(first, first + length)}
    assert covered == set(range(num_pieces))
    assert all(0 < length <= room for _, length in windows)
    starts = [first for first, _ in windows]
    assert all(later - one == min(stride, room) for one, later in pairwise(starts))
    # a window more would have nothing of its own, a window less would miss the end
    assert [first + length == num_pieces for first, length in windows].count(True) == bool(windows)


def test_windows_by_hand():
    assert cut_windows(10, 6, 3) == [(0, 6), (3, 6), (6, 4)]
    assert cut_windows(6, 6, 3) == [(0, 6)]
    assert cut_windows(7, 2, 5) == [(0, 2), (2, 2), (4, 2), (6, 1)]
    assert cut_windows(0, 6, 3) == []


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 12))
def test_each_piece_counts_where_its_context_is_largest(num_pieces, room, stride):
    windows = cut_windows(num_pieces, room, stride)
    chosen = choose_windows(windows, num_pieces)
    for piece in range(num_pieces):
        best, where = -1.0, None
        for number, (first, length) in enumerate(windows):
            last = first + length - 1
            if first <= piece <= last:
                context = min(piece - first, last - piece) + 0.01 * length
                if context > best:
                    best, where = context, number
        assert chosen[piece] == where


@given(st.integers(0, 1000), st.sampled_from(["1.1", "v2.0"]))
@settings(max_examples=30, deadline=None)
def test_tokens_and_answers_of_every_window(seed, version):
    content = make_squad(4, seed, version, words=20)
    dataset = build(content)
    names = dataset.dictionary.symbols
    answered = set()
    for index in range(len(dataset)):
        item, window = dataset[index], dataset.windows[index]
        question = dataset.squad.questions[window.question]
        pieces = [names[token] for token in item["tokens"]]
        assert len(pieces) == dataset.sizes[index] <= SIZES.tokens_per_sample
        query = make_tokenizer().encode(question.text)
        passage = make_tokenizer().encode(dataset.squad.passages[question.passage])
        own = passage[window.first : window.first + window.length]
        assert pieces == ["<s>", *query, "</s>", *own, "</s>"]
        assert item["token_types"].tolist() == [0] * (len(query) + 2) + [1] * (len(own) + 1)
        assert item["is_impossible"] == question.is_impossible
        start, end = item["start"], item["end"]
        if start == 0:
            assert end == 0
            continue
        first = window.first + start - len(query) - 2
        spans = dataset.passage_of(window.question).spans
        assert spans[first, 0] == question.answers[0].start
        assert make_tokenizer().join_words(pieces[start : end + 1]) == question.answers[0].text
        answered.add(question.id)
    assert answered == {qa["id"] for qa in list_qas(content) if qa["answers"]}


def test_a_window_with_half_an_answer_points_at_s():
    """Passage of 10 pieces, 5 fit: the answer, pieces 5 and 6, is whole in the last window only."""
    context = "w0 w1 w2 w3 w4 w15 w6 w7 w8"
    qa = {"id": "a", "question": "w9 w9", "answers": [{"text": "w15", "answer_start": 15}]}
    squad = {"data": [{"paragraphs": [{"context": context, "qas": [qa]}]}]}
    dataset = build(squad, sizes=WindowSizes(10, 3, 2))
    found = [(w.first, w.length, *dataset.locate_answer(w)) for w in dataset.windows]
    assert found == [(0, 5, 0, 0), (3, 5, 6, 7), (6, 4, 0, 0)]
    assert dataset.describe() == (
        "1 questions, 3 windows, 2 windows without their question's answer"
    )


def test_part_of_a_piece_takes_the_whole_piece():
    qa = {"id": "a", "question": "w9", "answers": [{"text": "1", "answer_start": 1}]}
    squad = {"data": [{"paragraphs": [{"context": "w1 w1 w1", "qas": [qa]}]}]}
    dataset = build(squad)
    assert dataset.answers == {0: (0, 0)}


def test_a_long_question_is_cut_and_counted():
    content = make_squad(1, 3)
    list_qas(content)[0]["question"] = "w1 w2 w3 w4 w5 w6 w7 w8"
    dataset = build(content)
    assert dataset.num_cut == 1
    assert len(dataset.queries[0]) == 6
    assert "1 questions cut to 6 tokens" in dataset.describe()


def test_batches_are_padded():
    dataset = build(make_squad(3, 1, words=3))
    items = [dataset[index] for index in range(3)]
    batch = dataset.collater(items)
    longest = max(len(item["tokens"]) for item in items)
    net_input = batch["net_input"]
    assert net_input["src_tokens"].shape == (3, longest)
    for row, item in enumerate(items):
        length, pad = len(item["tokens"]), dataset.dictionary.pad()
        assert net_input["src_tokens"][row].tolist() == item["tokens"].tolist() + [pad] * (
            longest - length
        )
        allowed = net_input["can_answer"][row].nonzero().flatten().tolist()
        assert allowed == [0, *range(dataset.passage_start(row), length)]
        assert net_input["start_positions"][row] == item["start"]
        assert batch["end_positions"][row] == item["end"]
    assert batch["nsentences"] == 3
    assert batch["ntokens"] == sum(len(item["tokens"]) for item in items)
    assert batch["is_impossible"].dtype == torch.float32
    assert dataset.collater([]) == {}


def test_for_prediction_nothing_is_left_out_and_no_answers_are_given():
    content = make_squad(2, 1)
    list_qas(content)[0]["answers"][0]["answer_start"] = 0
    dataset = build(content, to_learn=False)
    assert set(dataset.queries) == {0, 1}
    assert "start_positions" not in dataset.collater([dataset[0]])["net_input"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda qa, _: qa["answers"][0].update(answer_start=1), "is not at character 1"),
        (lambda qa, _: qa["answers"][0].update(answer_start=-1), "is not at character -1"),
        (lambda qa, _: qa["answers"][0].update(text="", answer_start=0), "'' has no pieces"),
        (lambda qa, _: qa["answers"].clear(), "it has no answer"),
        (lambda qa, _: qa.update(question=" "), "the question is empty"),
        (lambda _, paragraph: paragraph.update(context="\x01"), "the passage is empty"),
    ],
)
def test_what_cannot_be_learnt_from_is_left_out_and_named(change, reason):
    content = make_squad(3, 1)
    paragraph = content["data"][0]["paragraphs"][1]
    change(paragraph["qas"][0], paragraph)
    dataset = build(content)
    (skipped,) = dataset.skipped
    assert skipped.id == "q1-1"
    assert reason in skipped.reason
    assert set(dataset.queries) == {0, 2}


def test_a_file_of_which_most_cannot_be_learnt_from_is_refused():
    content = make_squad(9, 1)
    for qa in list_qas(content)[:7]:
        qa["answers"][0]["answer_start"] += 1
    with pytest.raises(ValueError, match=r"7 questions \(q1-0: the answer .*; \.\.\.\)") as caught:
        build(content)
    assert "q1-4" in str(caught.value)
    assert "q1-5" not in str(caught.value)
