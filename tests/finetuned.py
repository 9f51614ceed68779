"""Checkpoints with random fine-tuned heads, in folders as the prepare commands make them."""

import string
from pathlib import Path

import torch
from fairseq.tasks import TASK_DATACLASS_REGISTRY, TASK_REGISTRY
from omegaconf import OmegaConf

from fairseq_electra.conversion.checkpoint_file import write_checkpoint
from fairseq_electra.data.tokenizer import BERT_SPECIALS, WordPieceTokenizer
from fairseq_electra.models.electra_config import ElectraConfig
from tiny import TINY

WORDS = "the a cat dog bird sees likes old small red tree house and it was good bad not 中 文"
LETTERS = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
VOCABULARY = [*BERT_SPECIALS, *LETTERS, *WORDS.split()[:1], *WORDS.split()[2:], *",.!?'-"]


def make_tokenizer() -> WordPieceTokenizer:
    """Of some words and all letters."""
    return WordPieceTokenizer("\n".join(VOCABULARY).encode(), cased=False)


def save_finetuned(folder: Path, name: str, seed: int = 3, **options) -> Path:
    """A checkpoint of the task `name` in its folder, with random weights; options of the task."""
    task_cfg = {"data": str(folder), **options}
    task = TASK_REGISTRY[name].setup_task(TASK_DATACLASS_REGISTRY[name](**task_cfg))
    torch.manual_seed(seed)
    cfg = ElectraConfig(**{**TINY, "weight_init": "fan-in"}, _name="electra")
    model = task.build_model(OmegaConf.structured(cfg))
    for parameter in model.classification_heads.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    write_checkpoint(folder / "checkpoint.pt", cfg, model.state_dict(), folder)
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    state["cfg"]["task"] = {"_name": name, **task_cfg}
    torch.save(state, folder / "checkpoint.pt")
    return folder / "checkpoint.pt"


def save_tagger(folder: Path) -> Path:
    """A checkpoint that tags places and people."""
    make_tokenizer().save(folder)
    (folder / "label").mkdir()
    labels = ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"]
    (folder / "label" / "dict.txt").write_text("".join(f"{tag} 1\n" for tag in labels))
    return save_finetuned(folder, "electra_tagging", tokens_per_sample=32)
