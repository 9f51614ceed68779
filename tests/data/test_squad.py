"""SQuAD's JSON: what is read, and what is refused with its place."""

import copy
import json

import pytest

from fairseq_electra.data.squad import Answer, Question, read_squad

QA = {"id": "a", "question": "Who?", "answers": [{"text": "One", "answer_start": 4}]}
IMPOSSIBLE = {
    "id": "b",
    "question": "What?",
    "answers": [],
    "is_impossible": True,
    "plausible_answers": [{"text": "One", "answer_start": 4}],
}


@pytest.fixture
def read(tmp_path):
    """A function that reads paragraphs from a file, or content as it is."""

    def run(content):
        path = tmp_path / "some.json"
        if isinstance(content, list):
            content = {"version": "x", "data": [{"title": "t", "paragraphs": content}]}
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return read_squad(path)

    return run


def test_version_1(read):
    squad = read([{"context": "The One", "qas": [QA]}, {"context": "else", "qas": []}])
    assert squad.passages == ["The One", "else"]
    assert squad.questions == [Question("a", "Who?", 0, [Answer("One", 4)], False)]
    assert not squad.has_impossible
    assert squad.has_answers


def test_version_2(read):
    possible = {**QA, "is_impossible": False}
    squad = read(
        [{"context": "", "qas": []}, {"context": "The One", "qas": [possible, IMPOSSIBLE]}]
    )
    assert squad.questions[1] == Question("b", "What?", 1, [], True)
    assert squad.has_impossible


def test_a_file_without_answers_can_be_read(read):
    squad = read([{"context": "The One", "qas": [{"id": "a", "question": "Who?"}]}])
    assert not squad.has_answers


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda paragraph: paragraph.pop("context"), "article 1, paragraph 1 has no 'context'"),
        (lambda paragraph: paragraph.pop("qas"), "article 1, paragraph 1 has no 'qas'"),
        (
            lambda paragraph: paragraph.update(context=3),
            "'context' of article 1, paragraph 1 is no",
        ),
        (lambda paragraph: paragraph.update(context="\ud800"), "has half a character"),
        (lambda paragraph: paragraph["qas"].append("x"), "paragraph 1, question 2 has no 'id'"),
        (lambda paragraph: paragraph["qas"][0].pop("question"), "question 'a' has no 'question'"),
        (lambda paragraph: paragraph["qas"].append(QA), "two questions have the id 'a'"),
        (lambda paragraph: paragraph["qas"].clear(), "it has no questions"),
        (
            lambda paragraph: paragraph["qas"][0]["answers"].append({"text": "x"}),
            "question 'a' has no 'answer_start'",
        ),
        (
            lambda paragraph: paragraph["qas"][0].update(is_impossible=True),
            "question 'a' is impossible and has an answer",
        ),
        (
            lambda paragraph: paragraph["qas"][0].update(is_impossible="no"),
            "'is_impossible' of question 'a' is not true or false",
        ),
    ],
)
def test_another_form_is_named_with_its_place(read, change, complaint):
    paragraph = copy.deepcopy({"context": "The One", "qas": [QA]})
    change(paragraph)
    with pytest.raises(ValueError, match=r"some\.json is not SQuAD's JSON") as caught:
        read([paragraph])
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "some.json is not JSON: .* line 1"),
        ("[]", "some.json is not SQuAD's JSON: the file has no 'data'"),
        ('{"data": {}}', "'data' of the file is not a list"),
        ('{"data": [{"title": "t"}]}', "article 1 has no 'paragraphs'"),
    ],
)
def test_other_files_are_refused(read, content, complaint):
    with pytest.raises(ValueError, match=complaint):
        read(content)


def test_a_missing_file_and_another_encoding_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.json cannot be read"):
        read_squad(tmp_path / "none.json")
    (tmp_path / "latin.json").write_bytes(b'{"data": "\xe9"}')
    with pytest.raises(ValueError, match=r"latin\.json is not UTF-8"):
        read_squad(tmp_path / "latin.json")
