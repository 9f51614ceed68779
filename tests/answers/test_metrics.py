"""SQuAD's metrics by hand, each case also as the official scripts treat it."""

import pytest

from fairseq_electra.answers.metrics import (
    compute_f1,
    compute_f1_or_none,
    evaluate,
    find_threshold,
    match_exactly,
    normalize,
)
from fairseq_electra.data.squad import Answer, Question, Squad


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Cat's\ta-hat!", "cats ahat"),
        ("An apple, the pear and a fig", "apple pear and fig"),
        ("theme another", "theme another"),
        ("the.", ""),
        ("$5 \u2013 \u201cx\u201d", "5 \u2013 \u201cx\u201d"),  # only ASCII's punctuation goes
        ("a1 a 1", "a1 1"),
    ],
)
def test_normalize(text, normal):
    assert normalize(text) == normal


def test_scores_of_one_answer():
    assert match_exactly("The cat.", "cat") == 1
    assert match_exactly("cats", "cat") == 0
    # two words of three, two of four: 2 * 2 / 7
    assert compute_f1("big red cat", "red cat ran off") == pytest.approx(4 / 7)
    assert compute_f1("x x y", "x z") == pytest.approx(2 / 5)  # x counts once
    assert compute_f1("cat", "dog") == 0


def test_answers_without_words_differ_between_the_versions():
    assert compute_f1("the", "a") == 0
    assert compute_f1_or_none("the", "a") == 1
    assert compute_f1_or_none("", "a cat") == 0
    assert compute_f1_or_none("a cat", "cat") == 1


def make_squad(golds, has_impossible=False):
    questions = [
        Question(name, "?", 0, [Answer(text, 0) for text in texts], has_impossible and not texts)
        for name, texts in golds.items()
    ]
    return Squad([""], questions, has_impossible)


def test_version_1_takes_the_best_of_the_answers():
    squad = make_squad({"a": ["red cat", "a red cat ran"], "b": ["dog"], "c": ["fig", "pear"]})
    predicted = {"a": "the red cat ran", "b": "", "c": "pear tree"}
    metrics = evaluate(squad, predicted, {})
    assert metrics == pytest.approx({"exact_match": 100 / 3, "f1": 100 * (1 + 0 + 2 / 3) / 3})


def test_version_2_by_hand():
    """a is right, b half right, c is unanswerable and answered, d is so and not."""
    squad = make_squad({"a": ["cat"], "b": ["red dog"], "c": [], "d": []}, has_impossible=True)
    predicted = {"a": "cat", "b": "dog", "c": "fig", "d": ""}
    na_probs = {"a": 0.2, "b": 0.6, "c": 0.5, "d": 0.9}
    f1 = 2 / 3
    assert evaluate(squad, predicted, na_probs) == pytest.approx(
        {
            "exact": 50,
            "f1": 100 * (2 + f1) / 4,
            "total": 4,
            "HasAns_exact": 50,
            "HasAns_f1": 100 * (1 + f1) / 2,
            "HasAns_total": 2,
            "NoAns_exact": 50,
            "NoAns_f1": 50,
            "NoAns_total": 2,
            # with a answered alone: 3 right. b costs c, which costs more than b's F1 gives.
            "best_exact": 75,
            "best_exact_thresh": 0.2,
            "best_f1": 75,
            "best_f1_thresh": 0.2,
        }
    )


def test_a_threshold_is_raised_only_for_a_better_score():
    has_answer = {"a": True, "b": False, "c": True}
    texts = dict.fromkeys(has_answer, "x")
    scores = {"a": 1.0, "b": 0.0, "c": 1.0}
    na_probs = {"a": 0.1, "b": 0.2, "c": 0.3}
    assert find_threshold(scores, texts, na_probs, has_answer) == (pytest.approx(200 / 3), 0.1)
    na_probs["b"] = 0.5
    assert find_threshold(scores, texts, na_probs, has_answer) == (100, 0.3)
    assert find_threshold(dict.fromkeys(scores, 0.0), texts, na_probs, has_answer) == (
        pytest.approx(100 / 3),
        0,
    )


def test_right_answers_without_words_count_as_none_in_version_2_alone():
    assert evaluate(make_squad({"a": ["the"]}), {"a": "a"}, {}) == {"exact_match": 100, "f1": 0}
    squad = make_squad({"a": ["the", "cat"], "b": []}, has_impossible=True)
    scores = evaluate(squad, {"a": "a", "b": ""}, {"a": 0.0, "b": 1.0})
    assert scores["HasAns_exact"] == 0
    assert scores["NoAns_exact"] == 100
