"""Words as corpora have them: by hand, and that nothing gets lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairseq_electra.hub.text_words import find_words


def cut(text):
    return [text[start:end] for start, end in find_words(text)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("She left.", "She left ."),
        ('("Yes," he said) -- no...', '( " Yes , " he said ) -- no ...'),
        ("the U.S. and year-end 9.8% of $5", "the U.S. and year-end 9.8 % of $ 5"),
        ("Smith's won't, they\u2019d", "Smith 's wo n't , they \u2019d"),
        (
            "Mr. J. Smith of Acme Inc., or Co. in Jan. 5. He",
            "Mr. J. Smith of Acme Inc. , or Co. in Jan . 5 . He",
        ),
        ("It ended. A cat", "It ended . A cat"),
        ("Smith 's firm", "Smith 's firm"),
        ("in 北京大学x", "in 北 京 大 学 x"),
        ("नमस्ते cafe\u0301!", "नमस्ते cafe\u0301 !"),
        ("\n \t", ""),
    ],
)
def test_a_text_by_hand(text, words):
    assert cut(text) == words.split()


@pytest.mark.parametrize("sign", [".", ","])
def test_what_is_cut_already_stays_as_it_is(sign):
    text = f"Mr. Smith 's Inc. (x) said {sign}\tdon't"
    assert cut(text) == text.split()


@given(st.text(alphabet="ab .,'s n't\u0301北-$\t\n\x01😀", max_size=30))
def test_only_white_space_is_between_words(text):
    places = find_words(text)
    assert all(start < end for start, end in places)
    assert "".join(cut(text)) == "".join(text.split())
    assert [place for span in places for place in span] == sorted(
        place for span in places for place in span
    )
    assert not any(character.isspace() for word in cut(text) for character in word)
