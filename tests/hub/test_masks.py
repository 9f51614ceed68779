"""`<mask>` is found where it was typed; what fills it is spelled as text."""

import pytest

from fairseq_electra.data.tokenizer import WORD_START
from fairseq_electra.hub.masks import MASK, STAND_IN, make_slot, read_masked, write_words


def names(electra, text):
    read = read_masked(electra, text)
    parts = [text[start:end] for start, end in read.spans]
    return [electra.dictionary[number] for number in read.numbers], parts


@pytest.mark.parametrize(
    ("text", "pieces", "parts"),
    [
        ("The <mask>.", ["the", "<mask>", "."], ["The", "<mask>", "."]),
        ("<mask><mask> it", ["<mask>", "<mask>", "it"], ["<mask>", "<mask>", "it"]),
        ("a<mask>b", ["a", "<mask>", "b"], ["a", "<mask>", "b"]),
        (f"{STAND_IN} <mask>😀", ["<unk>", "<mask>", "<unk>"], [STAND_IN, "<mask>", "😀"]),
        ("the cat", ["the", "cat"], ["the", "cat"]),
        ("", [], []),
    ],
)
def test_masks_of_wordpiece(electra, text, pieces, parts):
    assert names(electra, text) == (pieces, parts)


@pytest.mark.parametrize(
    ("text", "pieces", "parts"),
    [
        ("The <mask>.", ["▁the", "<mask>", "."], ["The", "<mask>", "."]),
        ("the <mask> <mask>", ["▁the", "<mask>", "<mask>"], ["the", "<mask>", "<mask>"]),
        ("the<mask><mask>", ["▁the", "<mask>", "<mask>"], ["the", "<mask>", "<mask>"]),
        ("<mask>", ["<mask>"], ["<mask>"]),
        (
            "😀<mask>😀<mask>",
            [WORD_START, "<unk>", "<mask>", "<unk>", "<mask>"],
            ["", "😀", "<mask>", "😀", "<mask>"],
        ),
    ],
)
def test_masks_of_sentencepiece(sentencepiece_electra, text, pieces, parts):
    assert names(sentencepiece_electra, text) == (pieces, parts)


@pytest.mark.parametrize("name", ["electra", "sentencepiece_electra"])
@pytest.mark.parametrize("word", ["The", "bird", "bad"])
def test_a_mask_for_a_word_is_that_word_masked(name, word, request):
    """All else is read as it was, as in pre-training."""
    electra, text = request.getfixturevalue(name), "The bird, (it) was good and bad."
    read = electra.read(text)
    start = text.index(word)
    numbers = list(read.numbers)
    numbers[read.spans.index((start, start + len(word)))] = electra.dictionary.index(MASK)
    assert read_masked(electra, text.replace(word, MASK)).numbers == numbers


@pytest.mark.parametrize(
    ("text", "words", "filled"),
    [
        ("The <mask> is", [" cat"], "The cat is"),
        ("The <mask> is", ["s"], "Thes is"),
        ("<mask> is", [" cat"], "cat is"),
        ("<mask> is", ["s"], "s is"),
        ("A\n<mask>", [" cat"], "A\ncat"),
        ("un<mask>.", ["do"], "undo."),
        ("un<mask>.", [" cat"], "un cat."),
        ("(<mask>)", [" cat"], "(cat)"),
        ("It <mask> <mask><mask>", [" s", "aw", " you"], "It saw you"),
    ],
)
def test_words_are_written_into_a_text(text, words, filled):
    assert write_words(text, words) == filled


def test_spellings(electra, sentencepiece_electra):
    def spelled(electra, *symbols):
        return [electra.pieces.spellings[electra.dictionary.index(each)] for each in symbols]

    assert spelled(electra, "cat", "##s", ".", "<mask>", "<s>") == [" cat", "s", ".", "", ""]
    assert spelled(sentencepiece_electra, "▁the", ".", WORD_START, "<unk>") == [
        " the",
        ".",
        " ",
        "",
    ]
    for each, fills in ((electra, "cat ##s ."), (sentencepiece_electra, "▁the .")):
        index = each.dictionary.index
        assert all(each.pieces.is_text[index(symbol)] for symbol in fills.split())
        for symbol in ("<s>", "<pad>", "</s>", "<unk>", "<mask>"):
            assert not each.pieces.is_text[index(symbol)]
    assert not sentencepiece_electra.pieces.is_text[sentencepiece_electra.dictionary.index("▁")]


@pytest.mark.parametrize(
    ("place", "first"), [(0, 0), (10, 0), (15, 0), (16, 1), (40, 25), (55, 40), (69, 40)]
)
def test_a_slot_is_in_the_middle_of_its_window(electra, place, first):
    numbers = list(range(100, 170))  # of 32 tokens at once, 30 are pieces
    slot = make_slot(electra, numbers, place, place + 1, [7])
    wanted = [*numbers[:place], 7, *numbers[place + 1 :]][first : first + 30]
    assert slot.tokens == [electra.dictionary.bos(), *wanted, electra.dictionary.eos()]
    assert slot.tokens[slot.picked[0]] == 7 and slot.originals == [100 + place]
