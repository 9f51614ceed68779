"""Which tokens belong to the second sentence."""

import torch

from fairseq_electra.modules.token_types import mark_second_sentence

S, PAD, END = 0, 1, 2


def test_the_second_sentence_and_its_end_are_type_1():
    tokens = torch.tensor(
        [
            [S, 5, 6, END, 7, 8, END],
            [S, 5, END, 7, END, PAD, PAD],
            [S, 5, 6, 7, END, PAD, PAD],
            [S, END, 7, 8, 9, 6, END],
        ]
    )
    expected = torch.tensor(
        [
            [0, 0, 0, 0, 1, 1, 1],
            [0, 0, 0, 1, 1, 0, 0],
            [0, 0, 0, 0, 0, 0, 0],
            [0, 0, 1, 1, 1, 1, 1],
        ]
    )
    types = mark_second_sentence(tokens, END, PAD)
    assert types.dtype == torch.int64
    assert torch.equal(types, expected)


def test_robertas_double_separator_belongs_to_the_second_sentence():
    tokens = torch.tensor([[S, 5, END, END, 7, END]])
    assert mark_second_sentence(tokens, END, PAD).tolist() == [[0, 0, 0, 1, 1, 1]]
