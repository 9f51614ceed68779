"""SQuAD's exact match and F1 in percent, as its official scripts compute them.

In: questions with their right answers, and predicted texts by id. Written anew, because the scripts
are no package, and no maintained one has version 2.0; docs/answers.md compares the numbers.
"""

import re
import string
from collections import Counter
from typing import Callable, Dict, List, NamedTuple, Tuple

from fairseq_electra.data.squad import Question, Squad

ARTICLES = re.compile(r"\b(a|an|the)\b")
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Scores(NamedTuple):
    """Of each question by id, from 0 to 1."""

    exact: Dict[str, float]
    f1: Dict[str, float]


def normalize(text: str) -> str:
    """Lower case, without punctuation and articles, one space between words."""
    words = ARTICLES.sub(" ", text.lower().translate(NO_PUNCTUATION))
    return " ".join(words.split())


def match_exactly(predicted: str, gold: str) -> float:
    """1 if both are the same text after `normalize`."""
    return float(normalize(predicted) == normalize(gold))


def compute_f1(predicted: str, gold: str) -> float:
    """Harmonic mean of precision and recall of words; 0 without a word in common."""
    words, gold_words = normalize(predicted).split(), normalize(gold).split()
    common = sum((Counter(words) & Counter(gold_words)).values())
    return 2 * common / (len(words) + len(gold_words)) if common else 0.0


def compute_f1_or_none(predicted: str, gold: str) -> float:
    """As `compute_f1`, but 1 if both have no words (version 2.0)."""
    has_words = normalize(predicted) or normalize(gold)
    return compute_f1(predicted, gold) if has_words else 1.0


def list_golds(question: Question, has_impossible: bool) -> List[str]:
    """Right answers; the empty one where there are none (version 2.0)."""
    texts = [answer.text for answer in question.answers]
    if not has_impossible:
        return texts
    return [text for text in texts if normalize(text)] or [""]


def score_questions(squad: Squad, predicted: Dict[str, str]) -> Scores:
    """The best score over the right answers, for each question."""
    scores = Scores({}, {})
    f1 = compute_f1_or_none if squad.has_impossible else compute_f1
    for question in squad.questions:
        golds, text = list_golds(question, squad.has_impossible), predicted[question.id]
        scores.exact[question.id] = best(match_exactly, text, golds)
        scores.f1[question.id] = best(f1, text, golds)
    return scores


def best(score: Callable[[str, str], float], text: str, golds: List[str]) -> float:
    """The highest score; 0 if there is no right answer."""
    return max((score(text, gold) for gold in golds), default=0.0)


def evaluate(
    squad: Squad, predicted: Dict[str, str], na_probs: Dict[str, float]
) -> Dict[str, float]:
    """The numbers that the official script of the file's version prints, by its names.

    Version 2.0: `exact` and `f1` are of the predictions as they are, `best_exact` and `best_f1`
    with "" in their place where the probability of no answer is above `best_..._thresh`.
    """
    scores = score_questions(squad, predicted)
    if not squad.has_impossible:
        return {"exact_match": mean(scores.exact), "f1": mean(scores.f1)}
    has_answer = {question.id: bool(question.answers) for question in squad.questions}
    metrics: Dict[str, float] = {}
    for prefix, kept in (("", None), ("HasAns_", True), ("NoAns_", False)):
        names = [name for name in has_answer if kept in (None, has_answer[name])]
        if names:
            metrics[f"{prefix}exact"] = mean({name: scores.exact[name] for name in names})
            metrics[f"{prefix}f1"] = mean({name: scores.f1[name] for name in names})
            metrics[f"{prefix}total"] = len(names)
    for name, values in scores._asdict().items():
        score, threshold = find_threshold(values, predicted, na_probs, has_answer)
        metrics[f"best_{name}"], metrics[f"best_{name}_thresh"] = score, threshold
    return metrics


def mean(scores: Dict[str, float]) -> float:
    """In percent."""
    return 100 * sum(scores.values()) / len(scores)


def find_threshold(
    scores: Dict[str, float],
    predicted: Dict[str, str],
    na_probs: Dict[str, float],
    has_answer: Dict[str, bool],
) -> Tuple[float, float]:
    """The best mean score in percent, and the threshold on the probability of no answer for it.

    Questions are answered one after the other, the least probably unanswerable first; at the start
    none is, and threshold 0 stands for that.
    """
    now = top = float(sum(not answerable for answerable in has_answer.values()))
    threshold = 0.0
    for name in sorted(na_probs, key=na_probs.get):
        if has_answer[name]:
            now += scores[name]
        elif predicted[name]:
            now -= 1
        if now > top:
            top, threshold = now, na_probs[name]
    return 100 * top / len(scores), threshold
