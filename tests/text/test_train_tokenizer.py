"""SentencePiece training: the size asked for, all text seen, the same model in every run."""

import random
import re

import pytest
from fairseq.data import Dictionary
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_electra.text.train_tokenizer import (
    sample_lines,
    split_line,
    train_on_files,
    train_sentencepiece,
)

LETTERS = "abcdefghijklm"


def make_lines(count: int = 300) -> list:
    """Sentences of made-up words."""
    mixed = random.Random(1)
    words = ["".join(mixed.choices(LETTERS, k=mixed.randint(1, 7))) for _ in range(200)]
    return [" ".join(mixed.choices(words, k=12)).capitalize() for _ in range(count)]


def test_fairseqs_dictionary_gets_the_size_asked_for(tmp_path):
    tokenizer = train_sentencepiece(make_lines(), 200, cased=False)
    tokenizer.save(tmp_path)
    dictionary = Dictionary.load(str(tmp_path / "dict.txt"))
    dictionary.add_symbol("<mask>")
    assert len(dictionary) == 200


def test_two_runs_give_the_same_model():
    models = [train_sentencepiece(make_lines(), 200, cased=False) for _ in range(2)]
    assert models[0].content == models[1].content


def test_case_is_kept_only_where_asked():
    lower, cased = (train_sentencepiece(make_lines(), 250, cased) for cased in (False, True))
    assert lower.decode(lower.encode("Abc")) == "abc"
    assert cased.decode(cased.encode("Abc")) == "Abc"


def test_printable_characters_are_known_even_if_the_text_has_none():
    tokenizer = train_sentencepiece(make_lines(), 250, cased=True)
    assert "<unk>" not in tokenizer.encode("Zz 09 <mask> !~{}|")
    assert tokenizer.encode("\u4e00")[-1] == "<unk>"


@pytest.mark.parametrize(("wrong", "word"), [(10, "small"), (100_000, "large")])
def test_the_size_that_the_error_names_works(wrong, word):
    with pytest.raises(ValueError, match=f"--vocab-size {wrong} is too {word}") as error:
        train_sentencepiece(make_lines(), wrong, cased=False)
    named = int(re.search(r"at (?:least|most) (\d+)", str(error.value))[1])
    beyond = named - 1 if word == "small" else named + 1
    train_sentencepiece(make_lines(), named, cased=False)
    with pytest.raises(ValueError, match=f"--vocab-size {beyond} is too {word}"):
        train_sentencepiece(make_lines(), beyond, cased=False)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["a", "bc", "x" * 999, "y" * 1000, "z" * 2500]), max_size=9))
def test_long_lines_are_split_between_words_and_nothing_is_lost(words):
    parts = split_line("  ".join(words))
    assert all(len(part) <= 1000 for part in parts)
    assert "".join("".join(parts).split()) == "".join(words)
    if all(len(word) <= 1000 for word in words):
        assert [word for part in parts for word in part.split()] == words


def test_a_sample_is_from_all_over_the_text_and_the_same_in_every_run(tmp_path):
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for number, path in enumerate(paths):
        path.write_text("\n\n".join(f"{number} {i}" for i in range(500)))
    sample = sample_lines(paths, 200)
    assert len(set(sample)) == 200
    assert sum(line.startswith("1") for line in sample) == pytest.approx(100, abs=30)
    assert sample == sample_lines(paths, 200)


def test_all_white_space_is_space():
    spaces = [chr(code) for code in range(0x3001) if chr(code).isspace() and chr(code) != "\n"]
    lines = [line.replace(" ", space) for space in spaces for line in make_lines(20)]
    tokenizer = train_sentencepiece(lines, 150, cased=True)
    assert tokenizer.decode(tokenizer.encode("ab\u0085cd\u2028\u00a0ef")) == "ab cd ef"


def test_unreadable_text_is_named(tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"bad\.txt, line 1"):
        train_on_files([tmp_path / "bad.txt"], 100, cased=False)
