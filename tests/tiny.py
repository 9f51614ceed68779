"""The tiny sizes, the dictionary and the places that tests share."""

import inspect
from pathlib import Path

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.data.iterators import EpochBatchIterator

ROOT = Path(__file__).resolve().parent.parent
USER_DIR = str(ROOT / "fairseq_electra")

# fairseq 0.12.2 puts the same examples together in every epoch, main does not (and has this option)
new_batches = pytest.mark.skipif(
    "persistent_workers" not in inspect.signature(EpochBatchIterator).parameters,
    reason="this fairseq makes the batches of all epochs alike (fairseq 0.12.2)",
)

TINY = {
    "encoder_layers": 2,
    "encoder_embed_dim": 32,
    "encoder_ffn_embed_dim": 64,
    "encoder_attention_heads": 2,
    "embedding_size": 16,
    "generator_size": 0.5,
    "max_positions": 32,
    "dropout": 0.0,
    "attention_dropout": 0.0,
}
TINY_OPTIONS = [
    option for key, value in TINY.items() for option in ("--" + key.replace("_", "-"), str(value))
]


def make_dictionary(num_words: int = 40) -> Dictionary:
    """<s> <pad> </s> <unk>, words w0 w1 ..., <mask>."""
    dictionary = Dictionary()
    for word in range(num_words):
        dictionary.add_symbol(f"w{word}")
    dictionary.add_symbol("<mask>")
    return dictionary


def make_batch() -> dict:
    """A batch of two sentences, the second padded, as a model of both networks takes it."""
    return {
        "src_tokens": torch.tensor([[0, 5, 6, 7, 8, 2], [0, 9, 10, 2, 1, 1]]),
        "picked": torch.tensor([[1, 4], [2, 0]]),
        "picked_weights": torch.tensor([[1.0, 1.0], [1.0, 0.0]]),
        "becomes_mask": torch.tensor([[True, False], [True, False]]),
        "uniform": torch.full((2, 2), 0.7, dtype=torch.float64),
        "has_padding": True,
    }
