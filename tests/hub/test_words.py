"""Words have the characters of the text as given, whichever tokenizer cut it."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_electra.hub.texts import Text
from fairseq_electra.hub.words import split_words


def cut(electra, text):
    return [text[word.start : word.end] for word in split_words(electra.read(text))]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The old cat.", ["The", "old", "cat", "."]),
        ('"It wasn\'t good", (he-she) said!?', None),
        ("3,000.5% of U.S.A. dogs'", ["3,000.5", "%", "of", "U.S.A", ".", "dogs", "'"]),
        ("Café cafe\u0301. ÄÖ", ["Café", "cafe\u0301", ".", "ÄÖ"]),
        ("good😀 😀 --", ["good😀", "😀", "-", "-"]),  # one unknown piece, as BERT cuts
        ("中文 a中b", ["中", "文", "a", "中", "b"]),
        (" \t the\u3000dog\n", ["the", "dog"]),
        ("", []),
        ("\x00 \u200b", []),
    ],
)
def test_words_of_wordpiece(electra, text, words):
    if words is None:
        words = ['"', "It", "wasn't", "good", '"', ",", "(", "he-she", ")", "said", "!", "?"]
    assert cut(electra, text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The old cat.", ["The", "old", "cat", "."]),
        ("it wasn't Café (good) ½ ﬁne", ["it", "wasn't", "Café", "(", "good", ")", "½", "ﬁne"]),
        ("good 😀\u3000cafe\u0301.", ["good", "😀", "cafe\u0301", "."]),
    ],
)
def test_words_of_sentencepiece(sentencepiece_electra, text, words):
    assert cut(sentencepiece_electra, text) == words


def test_what_is_one_piece_stays_one_word():
    spans = [(0, 1), (1, 3), (4, 4), (4, 5)]  # "a", "b)", and a space of its own before "c"
    words = split_words(Text("ab) c", [5, 6, 7, 8], spans))
    assert [(word.start, word.end, word.first, word.last) for word in words] == [
        (0, 3, 0, 2),
        (4, 5, 2, 4),
    ]


@settings(deadline=None, max_examples=50)
@given(st.text(alphabet="ab ,.'-é\u0301中😀½ﬁ\t\u200b", max_size=20))
@pytest.mark.parametrize("name", ["electra", "sentencepiece_electra"])
def test_words_of_any_text(name, request, text):
    electra = request.getfixturevalue(name)
    read = electra.read(text)
    words = split_words(read)
    for word, after in pairwise(words):
        assert word.end <= after.start and word.last <= after.first
    for word in words:
        part = text[word.start : word.end]
        assert part and part == part.strip()
        spans = read.spans[word.first : word.last]
        assert word.end == max(end for _, end in spans)
    inside = {place for word in words for place in range(word.first, word.last)}
    assert all(place in inside for place, (start, end) in enumerate(read.spans) if start < end)
