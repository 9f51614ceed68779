"""SQuAD's JSON, versions 1.1 and 2.0: a file in, its passages, questions and answers out.

What is no SQuAD file is refused with its name and the place in it.
"""

import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

KINDS: Dict[type, str] = {
    list: "a list",
    str: "a string",
    int: "a whole number",
    bool: "true or false",
}


class Answer(NamedTuple):
    """One right answer."""

    text: str
    start: int  # its first character in the passage, as the file says


class Question(NamedTuple):
    """A question about a passage."""

    id: str
    text: str
    passage: int  # number in Squad.passages
    answers: List[Answer]  # none if it is unanswerable, or the file is a test set
    is_impossible: bool


class Squad(NamedTuple):
    """A file."""

    passages: List[str]
    questions: List[Question]
    has_impossible: bool  # it is SQuAD 2.0: every question says whether it can be answered

    @property
    def has_answers(self) -> bool:
        """Whether there is something to compare with, or to learn."""
        return any(question.answers for question in self.questions)


def read_squad(path: Path) -> Squad:
    """Read a file.

    Raises:
        ValueError: if it is not there or not SQuAD's JSON; names the file and the place.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start})") from None
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits
        raise ValueError(f"{path} is not JSON: {error}") from None
    try:
        return parse_squad(data)
    except ValueError as error:
        raise ValueError(f"{path} is not SQuAD's JSON: {error}") from None


def parse_squad(data: Any) -> Squad:
    """The questions of the JSON's content; ValueError, naming the place, if it has another form."""
    passages: List[str] = []
    questions: List[Question] = []
    flags = []
    for i, article in enumerate(get(data, "data", list, "the file")):
        place = f"article {i + 1}"
        for j, paragraph in enumerate(get(article, "paragraphs", list, place)):
            place = f"article {i + 1}, paragraph {j + 1}"
            passages.append(get(paragraph, "context", str, place))
            for k, qa in enumerate(get(paragraph, "qas", list, place)):
                question = parse_question(qa, len(passages) - 1, f"{place}, question {k + 1}")
                questions.append(question)
                flags.append("is_impossible" in qa)
    check_ids(questions)
    return Squad(passages, questions, has_impossible=any(flags))


def parse_question(qa: Any, passage: int, place: str) -> Question:
    """One question; ValueError if something is missing or contradicts itself."""
    name = get(qa, "id", str, place)
    place = f"question {name!r}"
    text = get(qa, "question", str, place)
    is_impossible = get(qa, "is_impossible", bool, place) if "is_impossible" in qa else False
    answers = [
        Answer(get(answer, "text", str, place), get(answer, "answer_start", int, place))
        for answer in (get(qa, "answers", list, place) if "answers" in qa else [])
    ]
    if is_impossible and answers:
        raise ValueError(f"{place} is impossible and has an answer")
    return Question(name, text, passage, answers, is_impossible)


def get(parent: Any, key: str, kind: type, place: str) -> Any:
    """parent[key]; ValueError unless it is there and of that kind."""
    if not isinstance(parent, dict) or key not in parent:
        raise ValueError(f"{place} has no {key!r}")
    if not isinstance(parent[key], kind):
        raise ValueError(f"{key!r} of {place} is not {KINDS[kind]}")
    if kind is str and any("\ud800" <= char <= "\udfff" for char in parent[key]):
        raise ValueError(f"{key!r} of {place} has half a character (a lone surrogate)")
    return parent[key]


def check_ids(questions: List[Question]) -> None:
    """ValueError if there are none, or two have one id: predictions are told apart by it."""
    if not questions:
        raise ValueError("it has no questions")
    known = set()
    for question in questions:
        if question.id in known:
            raise ValueError(f"two questions have the id {question.id!r}")
        known.add(question.id)
