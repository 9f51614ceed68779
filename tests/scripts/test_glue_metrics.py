"""Metrics by hand, and against formulas written out."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.glue.metrics import measure, predict_majority

# 3 of 4 right; of "1" two found, one wrongly: precision 2/3, recall 1
LABELS, GUESSES = ["1", "0", "1", "0"], ["1", "1", "1", "0"]


def test_classes_by_hand():
    names = ("accuracy", "f1", "mcc")
    expected = {
        "accuracy": 75.0,
        "f1": 80.0,
        "mcc": 100 * (2 * 1 - 1 * 0) / math.sqrt(3 * 2 * 2 * 1),
    }
    assert measure(names, GUESSES, LABELS) == pytest.approx(expected)


def test_numbers_by_hand():
    """Ranks 1 2 3 4 against 1 2 4 3: 1 - 6 * 2 / (4 * 15) = 0.8."""
    found = measure(("spearman", "pearson"), ["1.0", "2.0", "9.0", "3.0"], ["0", "1", "2", "5"])
    guesses, labels = [1, 2, 9, 3], [0, 1, 2, 5]
    a, b = sum(guesses) / 4, sum(labels) / 4
    cov = sum((x - a) * (y - b) for x, y in zip(guesses, labels, strict=True))
    squares = sum((x - a) ** 2 for x in guesses) * sum((y - b) ** 2 for y in labels)
    assert found == pytest.approx({"spearman": 80.0, "pearson": 100 * cov / math.sqrt(squares)})


@given(st.lists(st.tuples(st.sampled_from("01"), st.sampled_from("01")), min_size=1, max_size=30))
def test_f1_and_mcc_are_their_formulas(pairs):
    guesses, labels = zip(*pairs, strict=True)
    tp, fp, fn, tn = (pairs.count(tuple(pair)) for pair in ("11", "10", "01", "00"))
    root = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    expected = {
        "accuracy": 100 * (tp + tn) / len(pairs),
        "f1": 200 * tp / (2 * tp + fp + fn) if tp else 0.0,
        "mcc": 100 * (tp * tn - fp * fn) / root if root else 0.0,
    }
    assert measure(tuple(expected), guesses, labels) == pytest.approx(expected, abs=1e-9)


def test_one_number_for_all_correlates_with_nothing():
    assert measure(("spearman",), ["1.0"] * 3, ["1", "2", "3"]) == {"spearman": 0.0}


def test_the_majority_is_the_training_sets():
    assert predict_majority(["a", "b", "b"], 2) == ["b", "b"]
