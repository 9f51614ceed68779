"""A tiny model of both networks, random and the same each time, loaded as a user does."""

import string
from pathlib import Path

import pytest
import torch

from fairseq_electra import hub
from fairseq_electra.conversion.checkpoint_file import write_checkpoint
from fairseq_electra.data.tokenizer import BERT_SPECIALS, WordPieceTokenizer
from fairseq_electra.models.electra import ElectraModel
from fairseq_electra.models.electra_config import ElectraConfig
from tagging_bin import make_dictionary
from tiny import TINY

WORDS = "the a cat dog bird sees likes old small red tree house and it was good bad not 中 文"
LETTERS = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
VOCABULARY = [*BERT_SPECIALS, *LETTERS, *WORDS.split()[:1], *WORDS.split()[2:], *",.!?'-"]


def save_model(folder: Path, seed: int = 1, **options) -> Path:
    """A checkpoint with random weights, its dictionary and tokenizer; options of the model."""
    tokenizer = WordPieceTokenizer("\n".join(VOCABULARY).encode(), cased=False)
    tokenizer.save(folder)
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
