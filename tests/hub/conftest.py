"""A tiny model of both networks, random and the same each time, loaded as a user does."""

from pathlib import Path

import pytest
import torch

from fairseq_electra import hub
from fairseq_electra.conversion.checkpoint_file import write_checkpoint
from fairseq_electra.models.electra import ElectraModel
from fairseq_electra.models.electra_config import ElectraConfig
from fairseq_electra.text.train_tokenizer import train_sentencepiece
from finetuned import WORDS, make_tokenizer, save_tagger
from tagging_bin import make_dictionary
from tiny import TINY


def save_model(folder: Path, seed: int = 1, tokenizer=None, **options) -> Path:
    """A checkpoint with random weights, its dictionary and tokenizer; options of the model."""
    if tokenizer is None:
        tokenizer = make_tokenizer()
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


@pytest.fixture(scope="session")
def electric_path(tmp_path_factory) -> Path:
    """The same as --criterion electric trains it."""
    return save_model(tmp_path_factory.mktemp("electric"), two_tower_generator=True)


@pytest.fixture(scope="session")
def electric(electric_path):
    return hub.load(electric_path)


@pytest.fixture(scope="session")
def sentencepiece_electra(tmp_path_factory):
    """The same with a SentencePiece tokenizer, to which a few words are one piece."""
    words = WORDS.split()
    lines = [
        " ".join(words[step * place % len(words)] for place in range(1, 9)) + "."
        for step in range(1, 200)
    ]
    tokenizer = train_sentencepiece(
        [*lines, *["it (was) good, not bad; 1/2!"] * 3], 85, cased=False
    )
    return hub.load(save_model(tmp_path_factory.mktemp("unigram"), tokenizer=tokenizer))


@pytest.fixture(scope="session")
def tagger_path(tmp_path_factory) -> Path:
    return save_tagger(tmp_path_factory.mktemp("tags"))
