"""Windows and batches: the same numbers for a text whatever it is read with."""

import pytest
import torch

from fairseq_electra.hub.texts import make_windows, one_or_many, run_sorted, split_batches

TEXTS = ["the cat", "", "a dog sees the old bird and it was good ." * 6, "it", "héllo 中 文 😀 !"]


def test_a_text_has_a_row_for_each_piece(electra):
    texts = [electra.read(text) for text in TEXTS]
    rows = list(electra.each_piece(texts, electra.replaced_logits))
    assert [len(row) for row in rows] == [len(text.numbers) for text in texts]
    tokens = electra.encode(TEXTS[0])
    torch.testing.assert_close(rows[0], electra.replaced_logits(tokens[None])[0, 1:-1])


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_the_batch_does_not_matter(electra, batch_size):
    texts = [electra.read(text) for text in TEXTS]
    rows = electra.each_piece(texts, electra.replaced_logits, batch_size)
    for text, row in zip(texts, rows, strict=True):
        (alone,) = electra.each_piece([text], electra.replaced_logits)
        torch.testing.assert_close(row, alone, atol=1e-5, rtol=1e-5)


def test_windows_have_every_piece_with_its_context(electra):
    """A window's features depend on what it has, so position-free content shows which was used."""
    numbers = list(range(5, 75))
    windows = make_windows(0, numbers, 32, 0, 2)
    assert [window.first for window in windows] == [0, 15, 30, 45]
    assert all(window.tokens[0] == 0 and window.tokens[-1] == 2 for window in windows)
    text = electra.read("the cat " * 35)
    (seen,) = electra.each_piece([text], lambda tokens: tokens.float())
    assert seen.tolist() == text.numbers
    (places,) = electra.each_piece(
        [text], lambda tokens: torch.arange(32.0).expand(len(tokens), 32)
    )
    places = places.tolist()  # positions in the windows: the middle wherever there is a choice
    assert places[:8] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert all(8 <= place <= 23 for place in places[8:-8])


def test_an_endless_input_is_read_bit_by_bit():
    taken = []

    def items():
        number = 0
        while True:
            taken.append(number)
            yield number
            number += 1

    results = run_sorted(items(), lambda n: n % 7, lambda batch: [n * n for n in batch], 4)
    assert [next(results) for _ in range(300)] == [n * n for n in range(300)]
    assert len(taken) <= 2 * 4 * 64


def test_batches_are_full_of_like_length():
    sizes = [1, 2, 3, 30, 40, 100]
    order = list(range(6))
    assert list(split_batches(order, sizes, 2, 1000)) == [[0, 1], [2, 3], [4, 5]]
    assert list(split_batches(order, sizes, 9, 120)) == [[0, 1, 2, 3], [4], [5]]
    assert list(split_batches(order, sizes, 9, 10)) == [[0, 1, 2], [3], [4], [5]]


def test_one_list_or_iterator():
    def many(texts):
        return (text.upper() for text in texts)

    assert one_or_many("a", many) == "A"
    assert one_or_many(["a", "b"], many) == ["A", "B"]
    assert next(one_or_many(iter("ab"), many)) == "A"


def test_what_is_no_text_is_named(electra):
    with pytest.raises(TypeError, match="a text is a str, not int: 5"):
        electra.read(5)
