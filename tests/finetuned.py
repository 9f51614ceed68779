"""Checkpoints with random fine-tuned heads, in folders as the prepare commands make them."""

import string
from functools import lru_cache
from pathlib import Path

import torch
from fairseq.tasks import TASK_DATACLASS_REGISTRY, TASK_REGISTRY
from omegaconf import OmegaConf

from fairseq_electra.conversion.checkpoint_file import make_cfg
from fairseq_electra.data.tokenizer import BERT_SPECIALS, WordPieceTokenizer
from fairseq_electra.models.electra_config import ElectraConfig
from tiny import TINY

WORDS = "the a cat dog bird sees likes old small red tree house and it was good bad not 中 文"
LETTERS = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
VOCABULARY = [*BERT_SPECIALS, *LETTERS, *WORDS.split()[:1], *WORDS.split()[2:], *",.!?'-"]


def make_tokenizer() -> WordPieceTokenizer:
    """Of some words and all letters."""
    return WordPieceTokenizer("\n".join(VOCABULARY).encode(), cased=False)


CFG = ElectraConfig(**{**TINY, "weight_init": "fan-in"}, _name="electra")


@lru_cache
def make_configuration() -> dict:
    """fairseq's whole configuration with the model's, which takes a second to make."""
    return make_cfg(CFG, Path())


def save_finetuned(folder: Path, name: str, seed: int = 3, **options) -> Path:
    """A checkpoint of the task `name` in its folder, with random weights; options of the task."""
    task_cfg = {"data": str(folder), **options}
    task = TASK_REGISTRY[name].setup_task(TASK_DATACLASS_REGISTRY[name](**task_cfg))
    torch.manual_seed(seed)
    model = task.build_model(OmegaConf.structured(CFG))
    for parameter in model.classification_heads.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    cfg = {**make_configuration(), "task": {"_name": name, **task_cfg}}
    state = {"args": None, "cfg": cfg, "model": model.state_dict(), "task_state": {}}
    path = folder / "checkpoint.pt"
    torch.save({**state, "extra_state": {}, "optimizer_history": []}, path)
    return path


def save_tagger(folder: Path) -> Path:
    """A checkpoint that tags places and people."""
    make_tokenizer().save(folder)
    (folder / "label").mkdir()
    labels = ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"]
    (folder / "label" / "dict.txt").write_text("".join(f"{tag} 1\n" for tag in labels))
    return save_finetuned(folder, "electra_tagging", tokens_per_sample=32)
