"""fairseq's checkpoints are read whole or refused, and no pickle runs."""

import argparse
import pickle
from pathlib import Path

import pytest
import torch

from fairseq_electra.conversion.checkpoint_file import (
    SIZES,
    make_cfg,
    read_checkpoint,
    read_sizes,
    write_checkpoint,
)
from fairseq_electra.models.electra_config import ElectraConfig, choose_sharing
from tiny import TINY


class Trap:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "c.pt"
    write_checkpoint(path, ElectraConfig(**TINY), {"weight": torch.ones(2)}, tmp_path)
    return path


def test_what_is_written_is_read(checkpoint, tmp_path):
    found = read_checkpoint(checkpoint)
    assert found.tensors["weight"].tolist() == [1, 1]
    assert found.task["data"] == str(tmp_path)
    assert read_sizes(found, checkpoint) == ElectraConfig(**TINY)


@pytest.mark.parametrize("share", [1 / 3, 0.25, 12 / 48, 100 / 768])
@pytest.mark.parametrize("sharing", [None, "gdes"])
def test_every_option_survives(tmp_path, share, sharing):
    cfg = ElectraConfig(
        encoder_layers=3,
        generator_size=share,
        embedding_sharing=sharing,
        dropout=0.25,
        temperature=2.0,
    )
    model = make_cfg(cfg, tmp_path)["model"]
    assert {name: model[name] for name in SIZES} == {name: getattr(cfg, name) for name in SIZES}


def test_untied_embeddings_of_old_checkpoints(tmp_path):
    cfg = {"model": {"_name": "electra", "untie_embeddings": True}, "task": {}}
    torch.save({"cfg": cfg, "model": {}}, tmp_path / "c.pt")
    found = read_sizes(read_checkpoint(tmp_path / "c.pt"), tmp_path / "c.pt")
    assert choose_sharing(found) == "none"


def test_checkpoints_with_args_of_old_versions(tmp_path):
    args = argparse.Namespace(arch="electra_small", data="d", encoder_layers=5)
    torch.save({"args": args, "cfg": None, "model": {}}, tmp_path / "old.pt")
    found = read_checkpoint(tmp_path / "old.pt")
    assert (found.task["data"], read_sizes(found, tmp_path).encoder_layers) == ("d", 5)


@pytest.mark.parametrize("is_zip", [True, False])
def test_pickles_that_run_code_are_refused(tmp_path, is_zip):
    trap = Trap(tmp_path / "sprung")
    state = {"args": None, "cfg": {"model": trap, "task": {}}, "model": {}}
    path = tmp_path / "c.pt"
    torch.save(state, path, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(ValueError, match=r"c\.pt was not loaded.*asks for .*getattr"):
        read_checkpoint(path)
    assert not trap.path.exists()
    pickle.loads(pickle.dumps(trap))
    assert trap.path.exists()  # it would have


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 0.999])
def test_a_file_cut_short_is_refused(checkpoint, kept):
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=r"c\.pt is not a whole checkpoint"):
        read_checkpoint(checkpoint)


@pytest.mark.parametrize("content", [{"weight": torch.ones(1)}, [1], {"args": None, "model": {}}])
def test_other_files_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "c.pt")
    with pytest.raises(ValueError, match="not a whole checkpoint"):
        read_checkpoint(tmp_path / "c.pt")


def test_a_whole_file_that_torch_cannot_read_is_named(tmp_path):
    state = {"cfg": {"model": {"_name": "electra"}, "task": {}}, "model": {}}
    torch.save(state, tmp_path / "c.pt", pickle_protocol=4)
    with pytest.raises(ValueError, match=r"c\.pt is not .*torch cannot read it"):
        read_checkpoint(tmp_path / "c.pt")


def test_a_missing_file_and_another_model_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.pt: no such checkpoint"):
        read_checkpoint(tmp_path / "nowhere.pt")
    cfg = {"model": {"_name": "roberta"}, "task": {}}
    torch.save({"cfg": cfg, "model": {}}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match="holds a model roberta, not electra"):
        read_sizes(read_checkpoint(tmp_path / "c.pt"), tmp_path / "c.pt")
