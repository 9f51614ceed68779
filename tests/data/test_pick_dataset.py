"""How many positions are picked, which never are, and what the picks depend on."""

from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from fairseq_electra.data.pick_dataset import PickDataset, count_picks, max_picks
from tiny import make_dictionary

ORACLE = np.load(Path(__file__).parent.parent / "oracle" / "masking.npz")


def build(dictionary, sentences, **options):
    tokens = [torch.tensor(sentence) for sentence in sentences]
    sizes = np.array([len(sentence) for sentence in tokens])
    settings_ = {"mask_prob": 0.15, "limit": 19, "seed": 1, **options}
    return PickDataset(tokens, sizes, dictionary, **settings_)


def sentence(length, first=4):
    return [0, *[first + word % 30 for word in range(length - 2)], 2]


def test_numbers_agree_with_the_authors_code():
    for length, k_15, k_25 in zip(ORACLE["length"], ORACLE["k_15"], ORACLE["k_25"]):
        assert count_picks(int(length), 0.15, 19) == k_15
        assert count_picks(int(length), 0.25, 19) == k_25


@pytest.mark.parametrize(("length", "number"), [(190, 29), (350, 53), (390, 59), (512, 77)])
def test_numbers_are_rounded_in_float32(length, number):
    assert count_picks(length, 0.15, 79) == number


@pytest.mark.parametrize(
    ("mask_prob", "length", "limit"),
    [(0.15, 24, 3), (0.15, 128, 19), (0.15, 512, 79), (0.25, 512, 130)],
)
def test_limits_agree_with_the_authors_code(mask_prob, length, limit):
    assert max_picks(mask_prob, length) == limit


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.integers(0, 44), min_size=1, max_size=60),
    st.floats(0.01, 0.99),
    st.booleans(),
    st.integers(0, 10),
)
def test_specials_are_never_picked_and_the_number_is_right(tokens, mask_prob, replace, epoch):
    dictionary = make_dictionary()
    dataset = build(dictionary, [tokens], mask_prob=mask_prob, limit=60, with_replacement=replace)
    dataset.set_epoch(epoch)
    picks = dataset[0]["picks"]
    specials = {dictionary.bos(), dictionary.eos(), dictionary.pad(), dictionary.index("<mask>")}
    candidates = [place for place, token in enumerate(tokens) if token not in specials]
    wanted = count_picks(len(tokens), mask_prob, 60)
    assert all(place in candidates for place in picks.positions)
    assert len(picks.uniform) == len(picks.becomes_mask) == len(picks.positions)
    assert ((picks.uniform > 0) & (picks.uniform <= 1)).all()
    if replace:
        assert len(picks.positions) == (wanted if candidates else 0)
    else:
        assert len(set(picks.positions.tolist())) == len(picks.positions)
        assert len(picks.positions) == min(wanted, len(candidates))


def test_85_percent_become_mask_and_positions_are_uniform(dictionary):
    dataset = build(dictionary, [sentence(128)] * 3000)
    picks = [dataset[index]["picks"] for index in range(3000)]
    share = np.mean([pick.becomes_mask.mean() for pick in picks])
    assert abs(share - 0.85) < 4 * (0.85 * 0.15 / (3000 * 19)) ** 0.5
    counts = np.bincount(np.concatenate([pick.positions for pick in picks]), minlength=128)
    assert counts[0] == counts[127] == 0
    expected = 3000 * 19 / 126
    assert (np.abs(counts[1:127] - expected) < 5 * expected**0.5).all()


def test_with_replacement_repeats_as_often_as_in_the_authors_code(dictionary):
    dataset = build(dictionary, [sentence(128)] * 2000, with_replacement=True)
    distinct = [len(set(dataset[index]["picks"].positions.tolist())) for index in range(2000)]
    theirs = ORACLE["distinct_of_128"]
    their_mean = (theirs * np.arange(20)).sum() / theirs.sum()
    standard_error = np.std(distinct) * (2 / 2000) ** 0.5
    assert abs(np.mean(distinct) - their_mean) < 4 * standard_error


def test_picks_depend_on_seed_epoch_and_index_alone(dictionary):
    dataset = build(dictionary, [sentence(64)] * 3)
    first = dataset[1]["picks"]
    dataset[2]
    np.random.seed(7)
    torch.manual_seed(7)
    again = build(dictionary, [sentence(64)] * 3)[1]["picks"]
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(first, again))
    assert not np.array_equal(first.uniform, dataset[0]["picks"].uniform)
    assert not np.array_equal(
        first.uniform, build(dictionary, [sentence(64)] * 3, seed=2)[1]["picks"].uniform
    )
    dataset.set_epoch(2)
    assert not np.array_equal(first.uniform, dataset[1]["picks"].uniform)


def test_collater_pads_tokens_and_slots(dictionary):
    dataset = build(dictionary, [sentence(20), sentence(9), [0, 2]])
    batch = dataset.collater([dataset[index] for index in range(3)])
    net_input = batch["net_input"]
    assert net_input["src_tokens"].shape == (3, 20)
    assert net_input["src_tokens"][1].tolist() == sentence(9) + [dictionary.pad()] * 11
    assert net_input["picked_weights"].tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]
    assert net_input["picked"][1, 1:].tolist() == [0, 0]
    assert not net_input["becomes_mask"][1, 1:].any()
    assert net_input["uniform"].dtype == torch.float64
    assert (batch["ntokens"], batch["npicked"], batch["nsentences"]) == (31, 4, 3)
    assert net_input["has_padding"] is True
    full = dataset.collater([dataset[0], dataset[0]])
    assert full["net_input"]["has_padding"] is False


@pytest.mark.parametrize("size", [3, 8, 10, 19])
def test_no_sentence_is_left_out_of_the_batches(dictionary, size):
    dataset = build(dictionary, [sentence(12)] * size)
    batches = dataset.batch_by_size(
        dataset.ordered_indices(), max_sentences=8, required_batch_size_multiple=8
    )
    assert sorted(index for batch in batches for index in batch) == list(range(size))
    assert max(len(batch) for batch in batches) <= 8


def test_token_types_go_through(dictionary):
    item = {"tokens": torch.tensor(sentence(8)), "token_types": torch.tensor([0] * 4 + [1] * 4)}
    dataset = PickDataset([item], [8], dictionary, 0.15, 2)
    batch = dataset.collater([dataset[0]])
    assert batch["net_input"]["token_types"].tolist() == [[0] * 4 + [1] * 4]
