"""A tiny model of both networks, random and the same each time, loaded as a user does."""

from pathlib import Path

import pytest
import torch

from fairseq_electra import hub
from fairseq_electra.conversion.checkpoint_file import write_checkpoint
from fairseq_electra.models.electra import ElectraModel
from fairseq_electra.models.electra_config import ElectraConfig
from finetuned import save_tagger, save_tokenizer
from tagging_bin import make_dictionary
from tiny import TINY


def save_model(folder: Path, seed: int = 1, **options) -> Path:
    """A checkpoint with random weights, its dictionary and tokenizer; options of the model."""
    tokenizer = save_tokenizer(folder)
    torch.manual_seed(seed)
    cfg = ElectraConfig(**{**TINY, "weight_init": "fan-in", **options})
    model = ElectraModel(cfg, make_dictionary(tokenizer), pretrain=True)
    torch.nn.init.normal_(model.discriminator_head.out_proj.weight, std=0.5)
    write_checkpoint(folder / "checkpoint.pt", cfg, model.state_dict(), folder)
    return folder / "checkpoint.pt"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def electra(checkpoint):
    return hub.load(checkpoint)


@pytest.fixture(scope="session")
def tagger_path(tmp_path_factory) -> Path:
    return save_tagger(tmp_path_factory.mktemp("tags"))
