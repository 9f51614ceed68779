"""Changes in how fairseq reads data and loads batches."""

import inspect
import multiprocessing
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from fairseq.data import Dictionary, FairseqDataset, TokenBlockDataset, data_utils, indexed_dataset
from fairseq.data.iterators import BufferedIterator, EpochBatchIterator
from fairseq.tasks import FairseqTask
from omegaconf import OmegaConf
from torch.utils.data import Dataset

from commands import run, wait_for
from fairseq_electra.compat.loading.loading_ahead import join_consumers
from tiny import make_dictionary


def test_break_mode_eos_works(monkeypatch):
    dictionary = make_dictionary()
    lines = [torch.tensor([5, 6, 2]), torch.tensor([7, 2])]

    def build():
        return TokenBlockDataset(
            lines, [3, 2], None, dictionary.pad(), dictionary.eos(), break_mode="eos"
        )

    assert [block.tolist() for block in build()] == [[5, 6, 2], [7, 2]]
    monkeypatch.delattr(np, "compat")
    with pytest.raises(AttributeError, match="compat"):
        build()


LOAD_AHEAD = """
import torch
{load_plugin}
from fairseq.data.iterators import BufferedIterator

class Batches:
    def __len__(self):
        return 1000

    def __iter__(self):
        batch = torch.randn(300, 300)
        for _ in range(1000):
            for _ in range(20):
                batch = torch.cat([batch, batch])[:300] @ batch * 1e-3
            yield batch

batches = BufferedIterator(10, Batches())
next(batches)
print("done")
"""


def run_loading_ahead(load_plugin):
    code = LOAD_AHEAD.format(load_plugin=load_plugin)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "done" in done.stdout
    return done.returncode


@pytest.mark.campaign
def test_a_run_that_stops_inside_an_epoch_ends_well():
    assert run_loading_ahead("import fairseq_electra") == 0


@pytest.mark.campaign
def test_without_the_plugin_it_aborts():
    """Python kills the loading thread inside torch: a race, lost nearly every time."""
    assert any(run_loading_ahead("") != 0 for _ in range(10))


def test_a_full_buffer_is_no_obstacle():
    """The thread waits for room in the queue, for ever if nobody takes a batch."""
    batches = BufferedIterator(1, range(100))
    next(batches)
    join_consumers([batches._consumer])
    assert not batches._consumer.is_alive()


def test_what_a_left_loop_had_loaded_is_dropped():
    """Each batch of a loading process is an open file."""
    batches = BufferedIterator(4, list(range(100)))
    assert next(batches) == 0
    wait_for(lambda: batches._queue.qsize() == 4 or None, 60)
    join_consumers([batches._consumer])
    assert batches._queue.empty()


LEFT_EARLY = """
{load_plugin}
from fairseq.data.iterators import EpochBatchIterator
from torch.utils.data import Dataset

class Numbers(Dataset):
    def __len__(self):
        return 100

    def __getitem__(self, index):
        return index

batches = [[index] for index in range(100)]
validation = EpochBatchIterator(Numbers(), list, batches, buffer_size=2)
left = validation.next_epoch_itr(shuffle=False)
next(left)
thread = left._itr._consumer
del left
next(validation.next_epoch_itr(shuffle=False))
thread.join({seconds})
print("alive" if thread.is_alive() else "ended")
"""


@pytest.mark.parametrize(
    ("load_plugin", "seconds", "state"),
    [
        pytest.param("", 1, "alive", marks=pytest.mark.campaign),
        ("import fairseq_electra", 20, "ended"),
    ],
)
def test_a_loop_that_is_left_early_ends_its_thread(load_plugin, seconds, state):
    """As --max-valid-steps leaves it: the thread holds the loader's workers, without the plugin
    for ever."""
    code = LEFT_EARLY.format(load_plugin=load_plugin, seconds=seconds)
    if load_plugin:
        output = run(sys.executable, "-c", code).output
    else:
        output = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert output.split()[-1] == state


class Numbers(Dataset):
    def __len__(self):
        return 20

    def __getitem__(self, index):
        return index


def load_all(seconds, **options) -> list:
    """The worker processes that are left `seconds` after an epoch was loaded, of its own."""
    others = set(multiprocessing.active_children())
    epochs = EpochBatchIterator(
        Numbers(), list, [[index] for index in range(20)], num_workers=1, buffer_size=2, **options
    )
    assert list(epochs.next_epoch_itr(shuffle=False)) == [[index] for index in range(20)]
    deadline = time.monotonic() + seconds
    while set(multiprocessing.active_children()) - others and time.monotonic() < deadline:
        time.sleep(0.01)
    return list(set(multiprocessing.active_children()) - others)


def test_loader_workers_end_when_all_is_loaded():
    assert load_all(20) == []


def test_loader_workers_wait_for_the_next_epoch_where_fairseq_reuses_them():
    if "reuse_dataloader" not in inspect.signature(EpochBatchIterator).parameters:
        pytest.skip("this fairseq has no such option")
    (worker,) = load_all(0.5, reuse_dataloader=True)
    worker.terminate()


class EpochNumbers(FairseqDataset):
    """Each item is the epoch's number, as masks depend on it."""

    epoch = 0
    can_reuse_epoch_itr_across_epochs = True

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return self.epoch

    def num_tokens_vec(self, indices):
        return np.ones(len(indices), dtype=np.int64)

    def num_tokens(self, index):
        return 1

    def size(self, index):
        return 1

    def ordered_indices(self):
        return np.arange(3)

    def collater(self, samples):
        return samples

    def set_epoch(self, epoch):
        self.epoch = epoch


def test_a_loaders_process_learns_of_the_epoch():
    task = FairseqTask(OmegaConf.create({"data": ""}))
    batches = task.get_batch_iterator(
        EpochNumbers(), max_sentences=1, max_positions=9, num_workers=1, epoch=1
    )
    for epoch in (1, 2, 3):
        assert list(batches.next_epoch_itr(shuffle=False)) == [[epoch]] * 3


def test_a_damaged_split_is_named(tmp_path):
    """fairseq alone maps it without a look."""
    builder = indexed_dataset.make_builder(str(tmp_path / "train.bin"), "mmap", vocab_size=50)
    builder.add_item(torch.tensor([5, 6, 2]))
    builder.finalize(str(tmp_path / "train.idx"))
    (tmp_path / "train.bin").write_bytes(b"\x05\x00")
    with pytest.raises(ValueError, match=r"train\.bin has 2 bytes, its index train\.idx wants 6"):
        data_utils.load_indexed_dataset(str(tmp_path / "train"), make_dictionary())


def test_a_damaged_dictionary_is_named(tmp_path):
    (tmp_path / "dict.txt").write_text("w0 1\nw0 1\n")
    with pytest.raises(
        ValueError, match=r"dict\.txt is not a dictionary of fairseq: Duplicate word"
    ):
        Dictionary.load(str(tmp_path / "dict.txt"))
