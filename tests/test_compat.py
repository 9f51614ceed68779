"""Changes in compat.py; what concerns one of them alone has a file of its own (test_changes.py)."""

import argparse
import inspect
import multiprocessing
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.data import Dictionary, FairseqDataset, TokenBlockDataset, data_utils, indexed_dataset
from fairseq.data.iterators import BufferedIterator, EpochBatchIterator
from fairseq.dataclass.configs import DistributedTrainingConfig, EMAConfig
from fairseq.distributed import DistributedTimeoutWrapper
from fairseq.distributed import utils as distributed_utils
from fairseq.logging import progress_bar
from fairseq.models.ema.ema import EMA
from fairseq.tasks import FairseqTask
from omegaconf import OmegaConf
from torch.utils.data import Dataset

from commands import wait_for
from fairseq_electra.compat import apply
from fairseq_electra.data.loading_ahead import join_consumers
from tiny import TINY_OPTIONS, make_dictionary


def test_a_checkpoint_with_a_namespace_loads(tmp_path):
    torch.save({"args": argparse.Namespace(arch="electra_tiny")}, tmp_path / "checkpoint.pt")
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["args"].arch == "electra_tiny"


def test_without_the_plugin_it_does_not(tmp_path):
    torch.save({"args": argparse.Namespace(arch="electra_tiny")}, tmp_path / "checkpoint.pt")
    code = f"import torch; torch.load({str(tmp_path / 'checkpoint.pt')!r}, weights_only=True)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "argparse.Namespace" in done.stderr


class Touch:
    """Pickles as a call that creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_checkpoint_still_cannot_run_code(tmp_path):
    torch.save({"args": Touch(str(tmp_path / "made"))}, tmp_path / "checkpoint.pt")
    with pytest.raises(Exception, match="open"):
        torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert not (tmp_path / "made").exists()


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


def test_long_tensors_are_printed_as_their_shape():
    assert progress_bar.format_stat(torch.zeros(2, 1024)) == "<2x1024>"
    assert progress_bar.format_stat(torch.tensor(1.5)) == 1.5
    assert progress_bar.format_stat(3) == "3"


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


def test_a_run_that_stops_inside_an_epoch_ends_well():
    assert run_loading_ahead("import fairseq_electra") == 0


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
    ("load_plugin", "seconds", "state"), [("", 1, "alive"), ("import fairseq_electra", 20, "ended")]
)
def test_a_loop_that_is_left_early_ends_its_thread(load_plugin, seconds, state):
    """As --max-valid-steps leaves it: the thread holds the loader's workers, without the plugin
    for ever."""
    code = LEFT_EARLY.format(load_plugin=load_plugin, seconds=seconds)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == state


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
    with pytest.raises(ValueError, match=r"dict\.txt is no dictionary of fairseq: Duplicate word"):
        Dictionary.load(str(tmp_path / "dict.txt"))


COUNT_READS = """
from fairseq_cli.train import cli_main  # first, as it makes the log's format
import torch
import fairseq_electra
from fairseq.trainer import Trainer
from torch.utils._python_dispatch import TorchDispatchMode

class Reads(TorchDispatchMode):
    number = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.number += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))

train_step = Trainer.train_step

def count(self, *args, **kwargs):
    with Reads() as reads:
        result = train_step(self, *args, **kwargs)
    print("reads", reads.number)
    return result

Trainer.train_step = count
cli_main()
"""


def test_an_update_reads_one_number_off_the_device(run_command, data_bin, tmp_path):
    """The gradients' norm, which fairseq then looks at twice; a copy to the CPU is none here."""
    output = run_command(
        *(sys.executable, "-c", COUNT_READS, data_bin, "--user-dir", "fairseq_electra", "--cpu"),
        *("--task", "electra", "--criterion", "electra", "--arch", "electra_tiny", *TINY_OPTIONS),
        *("--optimizer", "electra_adam", "--lr", "1e-3", "--clip-norm", 1.0, "--max-update", 4),
        *("--tokens-per-sample", 32, "--batch-size", 8, "--update-freq", 2, "--num-workers", 0),
        *("--sample-break-mode", "complete", "--log-interval", 100, "--disable-validation"),
        *("--no-save", "--save-dir", tmp_path),
    ).output
    assert re.findall(r"^reads (\d+)$", output, re.MULTILINE) == ["2"] * 4
    assert re.search(r"train \|.* loss [\d.]+ .*disc_auc 0\.\d+", output)


@pytest.mark.parametrize("option", ["fp16", "bf16"])
def test_half_precision_on_the_cpu_is_refused(train_electra, data_bin, tmp_path, option):
    done = train_electra(data_bin, tmp_path, f"--{option}", "--fp16-no-flatten-grads", check=False)
    assert done.returncode != 0
    last = done.output.strip().splitlines()[-1]
    assert f"--{option} needs a GPU in fairseq. Available on the CPU: --precision bf16" in last


FULL_DISK = """
import contextlib, pathlib, resource, signal, sys
{load_plugin}
from fairseq.file_io import PathManager

folder = pathlib.Path(sys.argv[1])
(folder / "checkpoint_1_3.pt").write_bytes(b"new" * 10_000)
(folder / "checkpoint_last.pt").write_bytes(b"former")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
with contextlib.suppress(OSError):
    PathManager.copy(str(folder / "checkpoint_1_3.pt"), str(folder / "checkpoint_last.pt"), True)
print((folder / "checkpoint_last.pt").read_bytes() == b"former")
"""


@pytest.mark.parametrize(
    ("load_plugin", "kept"), [("", "False"), ("import fairseq_electra", "True")]
)
def test_a_failed_copy_keeps_the_former_checkpoint(tmp_path, load_plugin, kept):
    code = FULL_DISK.format(load_plugin=load_plugin)
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == kept


def test_the_checks_of_checkpoints_are_made_once():
    patched = checkpoint_utils.load_checkpoint, checkpoint_utils.torch_persistent_save
    assert patched[0].checks_first
    assert patched[1].writes_whole
    apply()
    assert patched == (checkpoint_utils.load_checkpoint, checkpoint_utils.torch_persistent_save)


BROADCAST = """
import sys
import torch
import fairseq_electra
from fairseq.distributed.utils import _broadcast_object_slow
from omegaconf import OmegaConf

rank = int(sys.argv[1])
torch.distributed.init_process_group(
    "gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2
)
state = {"cfg": OmegaConf.create({"arch": "electra_tiny"})} if rank == 0 else None
group = torch.distributed.group.WORLD
print(_broadcast_object_slow(state, 0, group, torch.device("cpu")))
torch.distributed.barrier()
"""


def test_a_configuration_reaches_the_other_worker(tmp_path):
    """As a checkpoint's does when several workers resume."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", BROADCAST, str(rank), str(tmp_path / "meeting")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    (zero, _), (one, errors) = (process.communicate() for process in started)
    assert zero == one == "{'cfg': {'arch': 'electra_tiny'}}\n", errors


def test_another_number_of_workers_goes_on_at_the_same_sentence():
    """One worker has read 6 batches: each of two has read 3, and the first goes on with the 7th."""

    def epoch(shards):
        batches = [[index] for index in range(20)]
        return EpochBatchIterator(Numbers(), list, batches, num_shards=shards, shard_id=0)

    one, two = epoch(1), epoch(2)
    batches = one.next_epoch_itr(shuffle=False)
    read = [next(batches) for _ in range(6)]
    assert read == [[index] for index in range(6)]
    two.load_state_dict(one.state_dict())
    assert next(two.next_epoch_itr(shuffle=False)) == [6]


def test_a_process_of_torchrun_needs_no_gpu(monkeypatch):
    """fairseq divides the worker's number by that of the GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    launched = {"MASTER_ADDR": "localhost", "MASTER_PORT": "1", "WORLD_SIZE": "2", "RANK": "1"}
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    cfg = DistributedTrainingConfig(distributed_world_size=2)
    distributed_utils.infer_init_method(cfg)
    assert (cfg.distributed_init_method, cfg.distributed_rank) == ("env://", 1)


def test_a_heartbeat_ends_a_worker_at_once():
    """Python handles SIGINT, fairseq's default, only when torch has stopped waiting."""
    wrapped = DistributedTimeoutWrapper(torch.nn.Linear(1, 1), timeout=0)
    assert wrapped.signal == signal.SIGTERM


@pytest.mark.parametrize("ema_fp32", [False, True])
def test_averaged_weights_keep_the_fingerprint(build_model, ema_fp32):
    model = build_model()
    ema = EMA(model, EMAConfig(store_ema=True, ema_decay=0.75, ema_fp32=ema_fp32))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        model.discriminator_head.dense.bias += 4
    ema.step(model)
    after = ema.get_model().state_dict()
    assert torch.equal(after["dictionary_fingerprint"], before["dictionary_fingerprint"])
    bias = "discriminator_head.dense.bias"
    assert torch.allclose(after[bias], before[bias] + 1)
