"""CoNLL files in and out: columns, separators, what does not fit."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairseq_electra.data.conll import (
    Sentence,
    append_tags,
    format_conll,
    parse_conll,
    read_conll,
    read_lines,
)

FILE = Path("some.txt")
LINES = [
    "-DOCSTART- -X- O",
    "",
    "U.N. NNP B-ORG",
    "official\tNN \tO\r",
    "",
    " \t",
    "Ekeus NNP B-PER",
    "-DOCSTART- -X- -X- O",
    "10\u00a0000 CD O",
]


def test_sentences_by_hand():
    assert parse_conll(LINES, FILE) == [
        Sentence(["U.N.", "official"], ["B-ORG", "O"], [3, 4]),
        Sentence(["Ekeus"], ["B-PER"], [7]),
        Sentence(["10\u00a0000"], ["O"], [9]),
    ]
    assert parse_conll(LINES, FILE, 1, None)[0] == Sentence(["NNP", "NN"], [], [3, 4])


def test_appended_column_by_hand():
    assert list(append_tags(LINES, ["B-ORG", "I-ORG", "O", "O"])) == [
        "-DOCSTART- -X- O O",
        "",
        "U.N. NNP B-ORG B-ORG",
        "official\tNN \tO\tI-ORG\r",
        "",
        " \t",
        "Ekeus NNP B-PER O",
        "-DOCSTART- -X- -X- O O",
        "10\u00a0000 CD O O",
    ]


@pytest.mark.parametrize(
    ("lines", "columns", "message"),
    [
        (["", "a b B-X", "c O"], (0, -1), "some.txt, line 3: has 2 columns, line 2 has 3"),
        (["a b B-X", "c d e O"], (0, -1), "some.txt, line 2: has 4 columns, line 1 has 3"),
        (["a O"], (0, 2), "some.txt, line 1: has 2 column.s., none of number 2"),
        (["a O"], (-3, 1), "some.txt, line 1: has 2 column.s., none of number -3"),
        (["a"], (0, -1), "some.txt, line 1: has 1 column.s., and that of the words would be"),
        (["", " ", "-DOCSTART- O"], (0, -1), "some.txt has no words"),
    ],
)
def test_what_does_not_fit_is_named(lines, columns, message):
    with pytest.raises(ValueError, match=message):
        parse_conll(lines, FILE, *columns)


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.txt cannot be read: No such file"):
        read_lines(tmp_path / "gone.txt")
    (tmp_path / "latin.txt").write_bytes("a O\n\ncaf\u00e9 O\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.txt, line 3: not UTF-8"):
        read_lines(tmp_path / "latin.txt")


def test_ends_of_files_and_of_lines(tmp_path):
    """No line is added at the end; U+2028 and U+0085 end none; a byte-order mark is no word."""
    path = tmp_path / "some.txt"
    path.write_bytes("\ufeffa\u2028b O\r\n\r\nc\u0085 O".encode())
    assert read_lines(path) == ["a\u2028b O\r", "\r", "c\u0085 O"]
    assert [sentence.words for sentence in read_conll(path)] == [["a\u2028b"], ["c\u0085"]]


WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\t "), min_size=1)
SENTENCES = st.lists(st.lists(st.tuples(WORDS, WORDS), min_size=1), min_size=1)


@given(SENTENCES)
def test_what_is_written_is_read(sentences):
    """Any words and tags, but the line that separates documents; and the column after them."""
    if any(word == "-DOCSTART-" for sentence in sentences for word, _ in sentence):
        return
    given_ = [Sentence(*map(list, zip(*sentence)), []) for sentence in sentences]
    lines = format_conll(given_).removesuffix("\n").split("\n")
    read = parse_conll(lines, FILE)
    assert [(one.words, one.tags) for one in read] == [(one.words, one.tags) for one in given_]
    tagged = list(append_tags(lines, (f"{n}" for n in range(len(lines)))))
    again = parse_conll(tagged, FILE, 0, 1)
    assert [(one.words, one.tags) for one in again] == [(one.words, one.tags) for one in given_]
    numbers = [tag for one in parse_conll(tagged, FILE) for tag in one.tags]
    assert numbers == [f"{n}" for n in range(len(numbers))]
