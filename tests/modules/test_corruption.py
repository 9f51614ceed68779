"""Masking, sampling, corrupting and labelling, by hand and by statistics."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from fairseq_electra.modules.corruption import (
    choose,
    corrupt_tokens,
    label_replaced,
    mask_tokens,
    sample_tokens,
)

MASK = 99
TOKENS = torch.tensor([[0, 11, 12, 13, 2], [0, 21, 22, 2, 1]])
PICKED = torch.tensor([[1, 3], [2, 0]])  # the last slot is unused
WEIGHTS = torch.tensor([[1.0, 1.0], [1.0, 0.0]])


def uniforms(shape, seed=0):
    return 1 - torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_masks_the_slots_that_say_so_and_nothing_else():
    becomes_mask = torch.tensor([[True, False], [True, False]])
    masked = mask_tokens(TOKENS, PICKED, becomes_mask, MASK)
    assert masked.tolist() == [[0, MASK, 12, 13, 2], [0, 21, MASK, 2, 1]]


def test_a_position_picked_twice_is_masked_if_either_slot_says_so():
    picked = torch.tensor([[1, 1]])
    for becomes_mask in ([[True, False]], [[False, True]], [[True, True]]):
        masked = mask_tokens(TOKENS[:1], picked, torch.tensor(becomes_mask), MASK)
        assert masked.tolist() == [[0, MASK, 12, 13, 2]]


def test_corrupts_used_slots_only():
    sampled = torch.tensor([[51, 53], [62, 77]])
    corrupted = corrupt_tokens(TOKENS, PICKED, WEIGHTS, sampled)
    assert corrupted.tolist() == [[0, 51, 12, 53, 2], [0, 21, 62, 2, 1]]


def test_a_position_picked_twice_gets_the_floored_mean_of_its_samples():
    corrupted = corrupt_tokens(
        TOKENS[:1], torch.tensor([[1, 1]]), torch.ones(1, 2), torch.tensor([[77, 24]])
    )
    assert corrupted.tolist() == [[0, 50, 12, 13, 2]]


def test_a_right_guess_is_labelled_original():
    corrupted = corrupt_tokens(TOKENS, PICKED, WEIGHTS, torch.tensor([[11, 53], [62, 0]]))
    labels = label_replaced(TOKENS, corrupted)
    assert labels.tolist() == [
        [False, False, False, True, False],
        [False, False, True, False, False],
    ]


def test_choose_by_hand():
    weights = torch.tensor([[1.0, 0.0, 3.0, 4.0]] * 6)
    fraction = torch.tensor([1e-12, 0.125, 0.1250001, 0.5, 0.5000001, 1.0], dtype=torch.float64)
    entry, inside = choose(weights, fraction)
    assert entry.tolist() == [0, 0, 2, 2, 3, 3]
    assert inside[1].item() == inside[3].item() == inside[5].item() == 1.0
    assert 0 < inside[2].item() < 1e-5


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_follow_the_softmax(temperature):
    """Chi-square over 300 entries (several sampling blocks), 200 000 draws, at a fixed seed."""
    logits = torch.randn(300, generator=torch.Generator().manual_seed(4)) * 2
    draws = 200_000
    sampled = sample_tokens(logits.expand(draws, -1), uniforms((draws,)), temperature)
    expected = torch.softmax(logits / temperature, 0).double() * draws
    counts = torch.bincount(sampled, minlength=300).double()
    likely = expected > 5
    chi_square = ((counts - expected) ** 2 / expected)[likely].sum().item()
    degrees = likely.sum().item() - 1
    assert abs(chi_square - degrees) < 4 * (2 * degrees) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_never_samples_an_impossible_entry(dtype):
    logits = torch.full((2000, 200), float("-inf"), dtype=dtype)
    logits[:, 7] = 3.0
    logits[:, 131] = 3.0
    sampled = sample_tokens(logits, uniforms((2000,)))
    assert set(sampled.tolist()) == {7, 131}
    edges = sample_tokens(logits[:2], torch.tensor([1.0, 2.0**-53], dtype=torch.float64))
    assert edges.tolist() == [131, 7]


def test_each_row_is_sampled_from_its_own_logits_and_without_gradient():
    logits = torch.full((3, 4, 150), -50.0, requires_grad=True)
    wanted = torch.arange(12).view(3, 4) * 12
    peaked = logits.scatter(2, wanted.unsqueeze(2), 50.0)
    sampled = sample_tokens(peaked, uniforms((3, 4)))
    assert torch.equal(sampled, wanted)
    assert not sampled.requires_grad


def test_the_same_uniform_number_samples_the_same_in_any_batch():
    logits = torch.randn(8, 5, 333, generator=torch.Generator().manual_seed(1))
    uniform = uniforms((8, 5))
    whole = sample_tokens(logits, uniform)
    parts = torch.cat(
        [sample_tokens(logits[row : row + 1], uniform[row : row + 1]) for row in range(8)]
    )
    assert torch.equal(whole, parts)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_only_used_picked_positions_change(data):
    length = data.draw(st.integers(2, 12))
    slots = data.draw(st.integers(1, 6))
    ids = st.integers(0, 50)
    tokens = torch.tensor([data.draw(st.lists(ids, min_size=length, max_size=length))])
    picked = torch.tensor(
        [data.draw(st.lists(st.integers(0, length - 1), min_size=slots, max_size=slots))]
    )
    weights = torch.tensor(
        [data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=slots, max_size=slots))]
    )
    samples = torch.tensor([data.draw(st.lists(ids, min_size=slots, max_size=slots))])
    corrupted = corrupt_tokens(tokens, picked, weights, samples)
    used = {position for position, weight in zip(picked[0].tolist(), weights[0].tolist()) if weight}
    for position in range(length):
        drawn = [
            sample
            for place, weight, sample in zip(
                picked[0].tolist(), weights[0].tolist(), samples[0].tolist()
            )
            if place == position and weight
        ]
        expected = sum(drawn) // len(drawn) if position in used else tokens[0, position].item()
        assert corrupted[0, position].item() == expected
