"""Counts of entities: by hand, and their sums against seqeval on all sentences together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import f1_score, precision_score, recall_score

from fairseq_electra.criterions.entity_counts import (
    ENTITY_KEYS,
    are_entity_tags,
    count_entities,
    score_entities,
)


def test_counts_by_hand():
    """One found, one too long, one of another type, one missed; an I- after O begins one."""
    gold = [["B-A", "I-A", "O", "B-B"], ["B-A", "O", "B-C", "O"], ["O", "I-A"]]
    ours = [["B-A", "I-A", "O", "B-A"], ["B-A", "I-A", "O", "O"], ["O", "B-A"]]
    counts = count_entities(gold, ours)
    assert counts == {"right_entities": 2, "predicted_entities": 4, "gold_entities": 5}
    scores = score_entities(*counts.values())
    assert scores == pytest.approx({"precision": 2 / 4, "recall": 2 / 5, "f1": 4 / 9})
    assert score_entities(0, 0, 0) == {"precision": 0, "recall": 0, "f1": 0}


TAG = st.sampled_from(["O", *(f"{mark}-{kind}" for mark in "BIES" for kind in "XY")])
SENTENCES = st.lists(st.lists(st.tuples(TAG, TAG), min_size=1, max_size=6), min_size=1, max_size=9)


@given(SENTENCES, st.integers(1, 4))
def test_sums_over_batches_are_seqevals(sentences, batch):
    gold = [[one for one, _ in sentence] for sentence in sentences]
    ours = [[other for _, other in sentence] for sentence in sentences]
    counts = [
        count_entities(gold[start : start + batch], ours[start : start + batch])
        for start in range(0, len(gold), batch)
    ]
    scores = score_entities(*(sum(count[key] for count in counts) for key in ENTITY_KEYS))
    for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        assert scores[name] == pytest.approx(score(gold, ours, zero_division=0)), name


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["B-NP", "I-NP", "O"], True),
        (["S-X-Y", "E-1"], True),
        (["NN", "IN", "O"], False),
        (["B-NP", "B"], False),
        (["U-NP", "O"], False),
    ],
)
def test_which_tags_mark_entities(labels, expected):
    assert are_entity_tags(labels) is expected
