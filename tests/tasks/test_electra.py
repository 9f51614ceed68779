"""Whole fairseq commands at the tiny size: training, validating, resuming, workers, bad input."""

import json
import re
import shutil
import sys
import threading

import pytest
import torch

from fairseq_electra.tasks.electra import ElectraTask, ElectraTaskConfig
from tiny import USER_DIR

METRICS = {
    *("loss", "gen_loss", "disc_loss", "masked_acc", "sampled_acc", "replaced"),
    *("disc_acc", "disc_precision", "disc_recall", "disc_auc"),
}


def read_json(output, kind="train_inner"):
    """The json payloads of fairseq's log lines of one kind."""
    lines = re.findall(rf"\| {kind} \| (\{{.*\}})", output)
    return [{key: float(value) for key, value in json.loads(line).items()} for line in lines]


def load(save_dir, name="checkpoint_last.pt"):
    return torch.load(save_dir / name, weights_only=True)["model"]


@pytest.fixture(scope="module")
def trained(data_bin, tmp_path_factory, train_electra):
    """A run of six updates, saved and validated after three and six: save-dir, what it printed."""
    save_dir = tmp_path_factory.mktemp("trained")
    options = ("--save-interval-updates", 3, "--tensorboard-logdir", save_dir / "tb")
    return save_dir, train_electra(data_bin, save_dir, *options).output


def test_training_logs_every_metric(trained):
    _, output = trained
    updates = read_json(output)
    assert len(updates) == 6
    assert set(updates[0]) >= METRICS
    *_, valid = read_json(output, "valid")
    assert {f"valid_{name}" for name in METRICS} <= set(valid)
    assert updates[0]["lr"] == pytest.approx(1e-3 * (1 - 1 / 6) * 1 / 2)  # after the first update
    assert updates[-1]["lr"] == 0.0


def test_training_learns(data_bin, tmp_path, train_electra):
    options = ("--max-update", 60, "--lr", "5e-3", "--warmup-updates", 5, "--no-save")
    updates = read_json(train_electra(data_bin, tmp_path, *options).output)
    assert updates[-1]["gen_loss"] < 0.85 * updates[0]["gen_loss"]
    assert updates[-1]["disc_loss"] < updates[1]["disc_loss"]


def validate(run_command, data, checkpoint, *options):
    done = run_command(
        *(sys.executable, "-m", "fairseq_cli.validate", data, "--user-dir", USER_DIR, "--cpu"),
        *("--task", "electra", "--criterion", "electra", "--path", checkpoint),
        *("--valid-subset", "valid", "--log-format", "json", "--num-workers", 0, *options),
    )
    (result,) = re.findall(r"\| valid \| (\{.*\})", done.output)[-1:]
    return {key: float(value) for key, value in json.loads(result).items()}, done.output


def test_validation_repeats_whatever_the_batches(trained, data_bin, run_command):
    """fairseq-validate gives what training printed, also in batches of another size.

    Of the histogram that the AUC is counted in it prints the shape.
    """
    save_dir, output = trained
    *_, during = read_json(output, "valid")
    checkpoint = save_dir / "checkpoint_last.pt"
    for batch_size in (8, 3):
        options = ("--batch-size", batch_size, "--log-interval", 1)
        after, output = validate(run_command, data_bin, checkpoint, *options)
        for name in METRICS - {"loss"}:
            assert after[f"valid_{name}"] == pytest.approx(during[f"valid_{name}"], abs=2e-4), name
        assert "<2x1024>" in output
        assert max(len(line) for line in output.splitlines() if "disc_histogram" in line) < 1000


def test_a_resumed_run_ends_with_the_same_weights(trained, data_bin, tmp_path, train_electra):
    """After three of six updates, in the middle of an epoch."""
    shutil.copy(trained[0] / "checkpoint_1_3.pt", tmp_path / "checkpoint_last.pt")
    resumed = train_electra(data_bin, tmp_path, "--save-interval-updates", 3)
    assert [update["num_updates"] for update in read_json(resumed.output)] == [4, 5, 6]
    once, twice = load(trained[0]), load(tmp_path)
    assert all(torch.equal(once[name], twice[name]) for name in once)


def test_accumulation_gives_the_same_weights(trained, data_bin, tmp_path, train_electra):
    """--update-freq 4 over batches of 2 sentences: the sentences of one update are others then, so
    both runs take the whole of a small data set in one update."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for save_dir, batch, freq in ((whole, 16, 1), (parts, 4, 4)):
        options = ("--batch-size", batch, "--update-freq", freq, "--max-update", 3)
        train_electra(
            one_update_bin(data_bin, tmp_path), save_dir, *options, "--disable-validation"
        )
    assert_close(load(whole), load(parts))


def one_update_bin(data_bin, tmp_path):
    """A data-bin whose train split is 16 equal blocks at most: an epoch is one update."""
    small = tmp_path / "small-bin"
    if not small.exists():
        shutil.copytree(data_bin, small)
        from fairseq.data import indexed_dataset

        source = indexed_dataset.MMapIndexedDataset(str(data_bin / "train"))
        tokens = torch.cat([source[line] for line in range(len(source))])[: 16 * 31]
        builder = indexed_dataset.MMapIndexedDatasetBuilder(str(small / "train.bin"))
        builder.add_item(tokens)
        builder.finalize(str(small / "train.idx"))
    return small


def assert_close(ours, theirs):
    for name, tensor in ours.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-4, atol=2e-6, msg=name)


@pytest.mark.campaign
def test_two_processes_give_the_same_weights_as_one(data_bin, tmp_path, train_electra):
    """The same sixteen sentences an update, on one worker and on two (gloo)."""
    data = one_update_bin(data_bin, tmp_path)
    one, two = tmp_path / "one", tmp_path / "two"
    common = ("--max-update", 3, "--disable-validation")
    train_electra(data, one, "--batch-size", 16, *common)
    port = 20_000 + hash(str(tmp_path)) % 20_000
    results = {}

    def worker(rank):
        results[rank] = train_electra(
            *(data, two, "--batch-size", 8, *common),
            *("--distributed-world-size", 2, "--distributed-rank", rank),
            *("--distributed-init-method", f"tcp://127.0.0.1:{port}"),
            *("--distributed-no-spawn", "--distributed-backend", "gloo"),
            *("--ddp-backend", "legacy_ddp"),
        )

    workers = [threading.Thread(target=worker, args=(rank,)) for rank in range(2)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    assert len(results) == 2
    assert_close(load(one), load(two))
    single = read_json(train_electra(data, tmp_path / "again", "--batch-size", 16, *common).output)
    both = read_json(results[0].output)
    for alone, shared in zip(single, both):
        for name in ("gen_loss", "disc_loss", "disc_auc", "sampled_acc"):
            assert shared[name] == pytest.approx(alone[name], abs=2e-4)


def test_every_epoch_picks_anew_with_data_workers_too(data_bin, tmp_path, train_electra):
    """fairseq's kept loader workers would repeat the first epoch's picks: see the task's config."""
    options = ("--max-update", 3, "--lr", "0", "--disable-validation", "--batch-size", 16)
    data = one_update_bin(data_bin, tmp_path)
    losses = {}
    for workers in (0, 2):
        run = train_electra(data, tmp_path / f"w{workers}", *options, "--num-workers", workers)
        losses[workers] = [update["gen_loss"] for update in read_json(run.output)]
    assert len(set(losses[0])) == 3
    assert losses[0] == losses[2]


@pytest.mark.parametrize(
    "options",
    [
        ("--sample-break-mode", "eos"),
        (
            *("--sample-break-mode", "complete_doc", "--mask-with-replacement"),
            *("--embedding-sharing", "none", "--disallow-correct", "--attention", "reference"),
            *("--temperature", "2.0", "--disc-weight", "10"),
        ),
    ],
)
def test_options_train(data_bin, tmp_path, train_electra, options):
    output = train_electra(data_bin, tmp_path, "--max-update", 2, "--no-save", *options).output
    assert len(read_json(output)) == 2


def test_hydra_trains_the_example(data_bin, tmp_path, run_command):
    done = run_command(
        *(sys.executable, "-m", "fairseq_cli.hydra_train", "--config-dir", f"{USER_DIR}/config"),
        *("--config-name", "electra_small", f"task.data={data_bin}", f"common.user_dir={USER_DIR}"),
        *("common.cpu=true", "optimization.max_update=2", "dataset.batch_size=4"),
        *("task.tokens_per_sample=32", "model.encoder_layers=1", "common.log_interval=1"),
        *(f"checkpoint.save_dir={tmp_path}", f"hydra.run.dir={tmp_path}"),
    )
    assert "num_updates" in done.output
    assert load(tmp_path)["encoder.layers.0.fc1.weight"].shape == (1024, 256)


def test_tensorboard_has_every_metric(trained):
    pytest.importorskip("tensorboardX")
    written = b"".join(path.read_bytes() for path in (trained[0] / "tb").rglob("events*"))
    for name in METRICS:
        assert name.encode() in written, name


def fails_with(done, *words):
    assert done.returncode != 0
    for word in words:
        assert word in done.output, done.output[-1500:]


def test_a_missing_or_empty_data_bin_is_named(data_bin, tmp_path, train_electra):
    fails_with(
        train_electra(tmp_path, tmp_path / "save", check=False), "no dict.txt", "prepare-data"
    )
    shutil.copy(data_bin / "dict.txt", tmp_path)
    fails_with(train_electra(tmp_path, tmp_path / "save", check=False), "no valid.bin", "prepare")
    for split in ("train", "valid"):
        (tmp_path / f"{split}.bin").touch()
        shutil.copy(data_bin / f"{split}.idx", tmp_path)
    fails_with(train_electra(tmp_path, tmp_path / "save", check=False), "valid.bin is empty")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--mask-prob", "0"), ("--mask-prob must lie between 0 and 1",)),
        (("--tokens-per-sample", "33"), ("--tokens-per-sample 33", "--max-positions 32")),
        (("--generator-size", "4.03"), ("--generator-size 4.03", "heads do not divide")),
    ],
)
def test_bad_options_are_named(data_bin, tmp_path, train_electra, options, words):
    fails_with(train_electra(data_bin, tmp_path, *options, check=False), *words)


def test_options_are_checked_without_a_run():
    for mask_prob in (-0.1, 0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="--mask-prob"):
            ElectraTask.setup_task(ElectraTaskConfig(data="nowhere", mask_prob=mask_prob))


def test_another_dictionary_is_named(trained, data_bin, tmp_path, train_electra):
    shutil.copytree(data_bin, tmp_path / "bin")
    lines = (data_bin / "dict.txt").read_text().splitlines(keepends=True)
    save_dir = tmp_path / "save"
    shutil.copytree(trained[0], save_dir)
    before = (save_dir / "checkpoint_last.pt").read_bytes()
    for changed in ([*lines, "extra 1\n"], lines[::-1]):
        (tmp_path / "bin" / "dict.txt").write_text("".join(changed))
        done = train_electra(tmp_path / "bin", save_dir, "--max-update", 9, check=False)
        fails_with(done, "the checkpoint was trained with another dictionary", "--tokenizer")
        assert (save_dir / "checkpoint_last.pt").read_bytes() == before


def copy_shards(data_bin, folder):
    """Two data directories of the same words, and their names as `data` takes them."""
    shards = [folder / "a", folder / "b"]
    for shard in shards:
        shutil.copytree(data_bin, shard)
    return shards, ":".join(map(str, shards))


def test_shards_of_the_same_words_take_turns(data_bin, tmp_path):
    """Their counts may differ; the epoch decides whose text is read."""
    (_, second), data = copy_shards(data_bin, tmp_path)
    words = second / "dict.txt"
    words.write_text(words.read_text().replace(" 1\n", " 7\n"))
    for part in ("bin", "idx"):
        shutil.copy(data_bin / f"valid.{part}", second / f"train.{part}")
    task = ElectraTask.setup_task(ElectraTaskConfig(data=data, tokens_per_sample=32))
    lengths = []
    for epoch in (1, 2, 3):
        task.load_dataset("train", epoch)
        lengths.append(len(task.dataset("train")))
    assert lengths[0] == lengths[2] > lengths[1]


def test_shards_of_other_words_are_named(data_bin, tmp_path):
    """Otherwise the second epoch trains on other words."""
    (first, second), data = copy_shards(data_bin, tmp_path)
    lines = (first / "dict.txt").read_text().splitlines(keepends=True)
    swapped = [*lines[:2], lines[3], lines[2], *lines[4:]]
    for changed, line in (swapped, 3), (lines[:-1], len(lines)), ([*lines, "x 1\n"], 41):
        (second / "dict.txt").write_text("".join(changed))
        words = f"{second}/dict.txt has other words than {first}/dict.txt, from line {line} on"
        with pytest.raises(ValueError, match=words):
            ElectraTask.setup_task(ElectraTaskConfig(data=data))


def test_shards_that_are_not_there_are_named(data_bin, tmp_path):
    (_, second), data = copy_shards(data_bin, tmp_path)
    for name in ("train.idx", "train.bin"):
        (second / name).unlink()
        task = ElectraTask.setup_task(ElectraTaskConfig(data=data, tokens_per_sample=32))
        with pytest.raises(FileNotFoundError, match=f"no {name} in {second}; make it with"):
            task.load_dataset("train", 1)
        task.load_dataset("valid", 1)  # fairseq reads the first one's alone
    (second / "dict.txt").unlink()
    with pytest.raises(FileNotFoundError, match=f"no dict.txt in {second}: not a data directory"):
        ElectraTask.setup_task(ElectraTaskConfig(data=data))
    shutil.rmtree(second)
    with pytest.raises(FileNotFoundError, match=f"there is no data directory {second}; make it"):
        ElectraTask.setup_task(ElectraTaskConfig(data=data))
