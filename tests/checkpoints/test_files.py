"""Damaged checkpoints are named and another is offered; a failed save leaves what was there."""

import errno
import os
import resource
import shutil
import signal
import sys
import time
import zipfile
from functools import partial

import pytest
import torch
from fairseq.dataclass.configs import CheckpointConfig

from fairseq_electra.checkpoints.files import (
    choose_checkpoint,
    copy_whole,
    find_damage,
    load_whole,
    newest_checkpoint,
    write_whole,
)
from fairseq_electra.models.electra import ElectraModel
from tiny import USER_DIR

CHECKPOINT = {"model": {"w": torch.ones(5000)}, "extra_state": {}, "optimizer_history": []}


@pytest.fixture
def checkpoint(tmp_path):
    write_whole(CHECKPOINT, str(tmp_path / "checkpoint_1_3.pt"))
    return tmp_path / "checkpoint_1_3.pt"


def test_a_whole_one_has_no_damage(checkpoint):
    assert find_damage(checkpoint) is None
    assert list(checkpoint.parent.iterdir()) == [checkpoint]


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(bytes(content))


def test_torch_loads_a_flipped_bit_and_find_damage_does_not(checkpoint):
    position = checkpoint.read_bytes().index(torch.ones(100).numpy().tobytes()) + 200
    flip(checkpoint, position)
    assert not torch.equal(torch.load(checkpoint)["model"]["w"], CHECKPOINT["model"]["w"])
    assert "checksum" in find_damage(checkpoint)


@pytest.mark.parametrize(
    ("content", "damage"),
    [
        (b"", "it is empty"),
        (b"no checkpoint at all\n", "torch cannot read it"),
        (b"PK\x03\x04 and no more", "its end is missing"),
    ],
)
def test_other_content_is_named(tmp_path, content, damage):
    (tmp_path / "checkpoint_last.pt").write_bytes(content)
    assert damage in find_damage(tmp_path / "checkpoint_last.pt")


def test_a_folder_and_a_foreign_file_are_named(tmp_path):
    assert find_damage(tmp_path) == "it is a folder"
    torch.save({"model": {}}, tmp_path / "other.pt")
    assert "no extra_state and no optimizer_history" in find_damage(tmp_path / "other.pt")
    torch.save([1], tmp_path / "list.pt")
    assert "no model" in find_damage(tmp_path / "list.pt")


def test_every_truncation_is_found(checkpoint):
    content = checkpoint.read_bytes()
    for size in range(0, len(content), 97):
        checkpoint.write_bytes(content[:size])
        assert find_damage(checkpoint) is not None, size


def test_any_flipped_byte_is_found_or_harmless(checkpoint):
    """Between the records are padding bytes, which nobody reads."""
    content = checkpoint.read_bytes()
    for position in range(0, len(content), 41):
        checkpoint.write_bytes(content)
        flip(checkpoint, position)
        if find_damage(checkpoint) is None:
            loaded = torch.load(checkpoint)
            assert torch.equal(loaded["model"]["w"], CHECKPOINT["model"]["w"]), position


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_record_that_claims_to_be_compressed_is_found(checkpoint, method):
    """The first is one flipped bit away from what torch writes."""
    content = bytearray(checkpoint.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 10] = method  # APPNOTE.TXT of the format, 4.3.12
    checkpoint.write_bytes(content)
    assert find_damage(checkpoint) is not None


def test_the_newest_whole_one_is_offered(checkpoint):
    folder = checkpoint.parent
    for age, name in ((300, "checkpoint1.pt"), (200, "checkpoint_2_9.pt"), (100, "checkpoint2.pt")):
        shutil.copy(checkpoint, folder / name)
        os.utime(folder / name, (time.time() - age,) * 2)
    os.utime(checkpoint, (1, 1))
    (folder / "crash.pt").write_bytes(checkpoint.read_bytes())
    (folder / "checkpoint2.pt").write_bytes(checkpoint.read_bytes()[:-30])
    assert newest_checkpoint(folder) == folder / "checkpoint_2_9.pt"
    assert newest_checkpoint(folder, but=folder / "checkpoint_2_9.pt").name == "checkpoint1.pt"


@pytest.fixture
def small_files():
    """No file of this process may be longer than 10 kB, as if the disk were full there."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("write", ["save", "copy"])
def test_a_write_that_fails_leaves_the_former(checkpoint, small_files, write):
    target = checkpoint.with_name("checkpoint_last.pt")
    target.write_bytes(b"former")
    with pytest.raises(OSError, match=r"checkpoint_last.pt could not be written: File too large"):
        if write == "save":
            write_whole(CHECKPOINT, str(target))
        else:
            copy_whole(str(checkpoint), str(target))
    assert target.read_bytes() == b"former"
    assert set(target.parent.iterdir()) == {checkpoint, target}


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_a_mount_that_writes_no_folder_to_the_disk_will_do(tmp_path, monkeypatch, number):
    original = os.fsync

    def fsync(file):
        if os.path.isdir(f"/proc/self/fd/{file}"):  # noqa: PTH112 (a descriptor)
            raise OSError(number, os.strerror(number))
        original(file)

    monkeypatch.setattr(os, "fsync", fsync)
    if number == errno.EIO:
        with pytest.raises(OSError, match="could not be written"):
            write_whole({"a": 1}, tmp_path / "checkpoint.pt")
    else:
        write_whole({"a": 1}, tmp_path / "checkpoint.pt")
        assert torch.load(tmp_path / "checkpoint.pt") == {"a": 1}


def test_a_copy_is_a_file_of_its_own(checkpoint):
    """`cp` onto a hard link would write into the other checkpoint."""
    last = checkpoint.with_name("checkpoint_last.pt")
    assert copy_whole(str(checkpoint), str(last)) == str(last)
    assert last.read_bytes() == checkpoint.read_bytes()
    assert not last.samefile(checkpoint)


@pytest.fixture(scope="module")
def trained(data_bin, tmp_path_factory, train_electra):
    save_dir = tmp_path_factory.mktemp("trained")
    train_electra(data_bin, save_dir, "--save-interval-updates", 2)
    return save_dir


@pytest.fixture
def save_dir(trained, tmp_path):
    """Stopped after four of six updates."""
    for update in (2, 4):
        shutil.copy2(trained / f"checkpoint_1_{update}.pt", tmp_path)
    shutil.copy2(trained / "checkpoint_1_4.pt", tmp_path / "checkpoint_last.pt")
    return tmp_path


def assert_same_end(save_dir, trained):
    ends = [torch.load(folder / "checkpoint_last.pt") for folder in (save_dir, trained)]
    ours, theirs = (end["model"] for end in ends)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    states = [end["last_optimizer_state"]["state"] for end in ends]
    for index, state in states[1].items():
        for name, value in state.items():
            assert torch.equal(torch.as_tensor(states[0][index][name]), torch.as_tensor(value))


def test_a_damaged_last_is_named_and_the_offer_resumes_exactly(
    trained, save_dir, data_bin, train_electra
):
    last = save_dir / "checkpoint_last.pt"
    last.write_bytes(last.read_bytes()[:5000])
    refused = train_electra(data_bin, save_dir, check=False)
    assert refused.returncode != 0
    offer = f"--restore-file {save_dir / 'checkpoint_1_4.pt'}"
    assert f"{last} is damaged: its end is missing" in refused.output.split("Traceback")[0]
    assert offer in refused.output.split("Traceback")[0]
    assert last.stat().st_size == 5000
    train_electra(data_bin, save_dir, *offer.split())
    assert_same_end(save_dir, trained)


def test_without_a_last_one_the_newest_is_used(trained, save_dir, data_bin, train_electra):
    (save_dir / "checkpoint_last.pt").unlink()
    output = train_electra(data_bin, save_dir, "--save-interval-updates", 2).output
    assert f"going on from {save_dir / 'checkpoint_1_4.pt'}" in output
    assert_same_end(save_dir, trained)


def test_a_fine_tuning_without_a_last_one_goes_on(trained, save_dir, data_bin, train_electra):
    (save_dir / "checkpoint_last.pt").unlink()
    start = ("--finetune-from-model", trained / "checkpoint_last.pt")
    output = train_electra(data_bin, save_dir, *start).output
    assert f"going on from {save_dir / 'checkpoint_1_4.pt'}" in output
    assert_same_end(save_dir, trained)


def test_a_fresh_fine_tuning_starts_from_its_model(trained, tmp_path, data_bin, train_electra):
    start = ("--finetune-from-model", trained / "checkpoint_last.pt")
    output = train_electra(data_bin, tmp_path / "new", *start, "--max-update", 1).output
    assert "loading pretrained model" in output
    assert "going on from" not in output


def read_all(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.pt")}


def flip_a_weight(path):
    """One bit in the largest tensor, which torch loads as another number."""
    with zipfile.ZipFile(path) as archive:
        tensors = [record for record in archive.infolist() if "/data/" in record.filename]
    record = max(tensors, key=lambda record: record.file_size)
    flip(path, record.header_offset + record.file_size // 2)
    torch.load(path)


def test_a_missing_restore_file_is_named_and_nothing_replaced(save_dir, data_bin, train_electra):
    before = read_all(save_dir)
    missing = save_dir / "checkpoint_1_3.pt"
    refused = train_electra(data_bin, save_dir, "--restore-file", missing, check=False)
    assert refused.returncode != 0
    last = refused.output.strip().splitlines()[-1]
    assert f"--restore-file {missing} does not exist" in last
    assert f"goes on from {save_dir / 'checkpoint_last.pt'}" in last
    assert read_all(save_dir) == before


@pytest.fixture
def options(save_dir):
    """fairseq's CheckpointConfig for `save_dir`."""
    return CheckpointConfig(save_dir=str(save_dir))


def test_a_missing_restore_file_has_the_newest_whole_one_offered(save_dir, options):
    options.restore_file = "elsewhere/typo.pt"
    last = save_dir / "checkpoint_last.pt"
    last.write_bytes(last.read_bytes()[:5000])
    flip_a_weight(save_dir / "checkpoint_1_4.pt")
    with pytest.raises(ValueError, match=r"typo.pt does not .* --restore-file .*/checkpoint_1_2"):
        choose_checkpoint(options, "")
    for path in save_dir.glob("*.pt"):
        path.unlink()
    with pytest.raises(ValueError, match=rf"typo.pt does not exist. {save_dir} has no whole"):
        choose_checkpoint(options, "")


def test_only_damaged_ones_are_named_and_not_replaced(save_dir, data_bin, train_electra):
    (save_dir / "checkpoint_last.pt").unlink()
    for path in save_dir.glob("*.pt"):
        path.write_bytes(path.read_bytes()[:5000])
    before = read_all(save_dir)
    refused = train_electra(data_bin, save_dir, check=False)
    assert refused.returncode != 0
    last = refused.output.strip().splitlines()[-1]
    assert f"no checkpoint in {save_dir} is whole" in last
    for name in before:
        assert f"{save_dir / name} (its end is missing)" in last
    assert "another --save-dir" in last
    assert read_all(save_dir) == before


def test_a_damaged_newest_one_is_named_where_an_older_one_is_used(save_dir, options, caplog):
    (save_dir / "checkpoint_last.pt").unlink()
    flip_a_weight(save_dir / "checkpoint_1_4.pt")
    assert choose_checkpoint(options, "") == str(save_dir / "checkpoint_1_2.pt")
    assert f"damaged: {save_dir / 'checkpoint_1_4.pt'} (the checksum" in caplog.text


def test_an_empty_save_dir_starts_anew(tmp_path):
    assert choose_checkpoint(CheckpointConfig(save_dir=str(tmp_path)), "") == "checkpoint_last.pt"


DAMAGES = {
    "the checksum of": flip_a_weight,
    "its end is missing": lambda path: path.write_bytes(path.read_bytes()[:5000]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_validation_names_a_damaged_one(save_dir, data_bin, run_command, damage):
    path = save_dir / "checkpoint_1_4.pt"
    DAMAGES[damage](path)
    done = run_command(
        *(sys.executable, "-m", "fairseq_cli.validate", data_bin, "--user-dir", USER_DIR),
        *("--cpu", "--task", "electra", "--criterion", "electra", "--path", path),
        *("--valid-subset", "valid", "--batch-size", 8),
        check=False,
    )
    assert done.returncode != 0
    assert f"the checkpoint {path} is damaged: {damage}" in done.output.strip().splitlines()[-1]


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_hub_names_a_damaged_one(save_dir, data_bin, damage):
    load = partial(ElectraModel.from_pretrained, str(save_dir), data_name_or_path=str(data_bin))
    load(checkpoint_file="checkpoint_1_2.pt")
    DAMAGES[damage](save_dir / "checkpoint_1_4.pt")
    with pytest.raises(ValueError, match=rf"checkpoint_1_4\.pt is damaged: {damage}"):
        load(checkpoint_file="checkpoint_1_4.pt")


def test_a_file_that_was_checked_is_not_read_once_more(checkpoint, monkeypatch):
    """Until it is written again."""
    checks = []
    testzip = zipfile.ZipFile.testzip
    monkeypatch.setattr(zipfile.ZipFile, "testzip", lambda file: checks.append(1) or testzip(file))
    assert find_damage(checkpoint) is None
    load_whole(str(checkpoint))
    with checkpoint.open("rb") as file:
        load_whole(file)
    assert len(checks) == 1
    time.sleep(0.05)  # more than the grain of a file's time
    flip(checkpoint, checkpoint.read_bytes().index(torch.ones(100).numpy().tobytes()) + 200)
    with pytest.raises(ValueError, match="checksum"):
        load_whole(str(checkpoint))


def test_a_full_disk_is_said_without_what_is_free_after_the_clean_up(checkpoint, monkeypatch):
    def fill(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", fill)
    with pytest.raises(OSError, match=r"No space left on device\. The last good one is ") as full:
        copy_whole(str(checkpoint), str(checkpoint.with_name("checkpoint_last.pt")))
    assert full.value.errno == errno.ENOSPC
