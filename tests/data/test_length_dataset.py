"""Batches by length: which an epoch has depends on its number alone."""

import numpy as np
import pytest
from fairseq.tasks import FairseqTask

from fairseq_electra.data.length_dataset import LengthDataset
from tiny import new_batches

SIZES = np.random.default_rng(4).integers(3, 6, 50)


class Numbers(LengthDataset):
    """Items are their numbers."""

    def __getitem__(self, index):
        return index

    def collater(self, samples):
        return samples


def read_epochs(*epochs):
    """The batches of epochs, as a run that makes these epochs reads them."""
    task, dataset = FairseqTask(None), Numbers(SIZES)
    return [
        list(
            task.get_batch_iterator(dataset, max_sentences=4, epoch=epoch).next_epoch_itr(
                shuffle=True
            )
        )
        for epoch in epochs
    ]


@new_batches
def test_a_run_that_starts_later_reads_the_same_batches():
    first, second, third = read_epochs(1, 2, 3)
    assert read_epochs(3) == [third]
    assert sorted(map(tuple, first)) != sorted(map(tuple, second))
    for batches in (first, second, third):
        assert sorted(number for batch in batches for number in batch) == list(range(50))


@pytest.mark.parametrize("multiple", [1, 8])
def test_batches_hold_every_item_by_length(multiple):
    dataset = Numbers(SIZES)
    limits = {"max_sentences": 12, "required_batch_size_multiple": multiple}
    batches = dataset.batch_by_size(dataset.ordered_indices(), **limits)
    assert sorted(np.concatenate(batches)) == list(range(50))
    lengths = SIZES[np.concatenate(batches)]
    assert (lengths[:-1] <= lengths[1:]).all()


def test_sentences_that_are_all_too_long():
    with pytest.raises(ValueError, match="none of the 50 sentences fits: the shortest has 3 "):
        Numbers(SIZES).batch_by_size(np.array([], dtype=int), required_batch_size_multiple=8)


def test_a_sentence_longer_than_a_batch():
    dataset = Numbers(SIZES)
    with pytest.raises(ValueError, match=r"of 5 tokens is longer than --max-tokens or .*-valid 4"):
        dataset.batch_by_size(dataset.ordered_indices(), max_tokens=4)


def test_no_data_makes_no_batches():
    none = np.array([], dtype=int)
    assert Numbers(none).batch_by_size(none) == []
