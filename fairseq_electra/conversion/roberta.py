"""fairseq's RoBERTa to an ELECTRA discriminator: `import-roberta`.

Encoder, word and position tables and their LayerNorm are taken. RoBERTa has no token types, so
both rows are zero; its first padding_idx + 1 positions are never used. LayerNorm's epsilon is 1e-5
there and 1e-12 here: features differ slightly, and training evens that out.
"""

import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import torch
from torch import Tensor

from fairseq_electra.conversion.checkpoint_file import (
    Checkpoint,
    check_sizes,
    find_data,
    read_checkpoint,
)
from fairseq_electra.conversion.networks import (
    TOKEN_TYPES,
    complete,
    list_misshapen,
    list_missing,
    list_shapes,
)
from fairseq_electra.conversion.vocabulary import load_dictionary
from fairseq_electra.data.tokenizer import INFO_FILE, load_tokenizer
from fairseq_electra.models.electra_config import ElectraConfig, usual_generator_size

# fairseq's names -> ours, also those from before 0.10 ("decoder", emb_layer_norm, in_proj).
RENAMED = (
    (r"^(encoder|decoder)\.sentence_encoder\.", ""),
    (r"^embed_tokens\.", "embeddings.embed_tokens."),
    (r"^embed_positions\.", "embeddings.embed_positions."),
    (r"^(layernorm_embedding|emb_layer_norm)\.", "embeddings.layer_norm."),
    (r"^layers\.", "encoder.layers."),
    (r"\.self_attn\.in_proj_(weight|bias)$", r".self_attn.qkv_proj.\1"),
)
NOT_TAKEN = re.compile(
    r"(encoder|decoder)\.(lm_head\.|sentence_encoder\.(version$|.*_float_tensor$))"
    r"|classification_heads\."
)
PAD = 1  # in every dictionary of fairseq
MODELS = ("roberta", "masked_lm")
SIZES = {
    "encoder_layers": 12,
    "encoder_embed_dim": 768,
    "encoder_ffn_embed_dim": 3072,
    "encoder_attention_heads": 12,
    "dropout": 0.1,
    "attention_dropout": 0.1,
}


def import_roberta(path: Path, data: Optional[Path], generator_size: Optional[float]) -> Tuple:
    """A whole model, and the data's tokenizer or None.

    Raises:
        ValueError: if it is no RoBERTa, or one that is not built as ELECTRA is.
    """
    checkpoint = read_checkpoint(path)
    check_model(checkpoint.model, path)
    folder = find_data(checkpoint, path, data)
    dictionary = load_dictionary(folder / "dict.txt")
    tensors, skipped = rename(checkpoint)
    cfg = read_sizes(checkpoint.model, tensors)
    cfg.generator_size = generator_size or usual_generator_size(cfg.encoder_embed_dim)
    check_sizes(cfg, path)
    check_tensors(tensors, list_shapes(cfg, dictionary), f"{path} with {folder}/dict.txt")
    tokenizer = load_tokenizer(folder) if (folder / INFO_FILE).is_file() else None
    notes = [f"not taken: {name}" for name in skipped]
    return complete(cfg, dictionary, tensors, notes), tokenizer


def check_model(model: Dict[str, Any], path: Path) -> None:
    """ValueError if it is another model, or has its LayerNorms or activation elsewhere."""
    name = str(model.get("arch") or model.get("_name"))
    if not name.startswith("roberta"):
        raise ValueError(f"{path} holds a model {name}, not roberta")
    if model.get("encoder_normalize_before"):
        raise ValueError(f"{path}: --encoder-normalize-before has no equivalent in ELECTRA")
    if model.get("activation_fn", "gelu") != "gelu":
        raise ValueError(f"{path}: --activation-fn {model['activation_fn']}; only gelu converts")


def rename(checkpoint: Checkpoint) -> Tuple[Dict[str, Tensor], List[str]]:
    """Our tensors, and the names of those that are not taken."""
    tensors, skipped = {}, []
    for name, tensor in checkpoint.tensors.items():
        if NOT_TAKEN.match(name):
            skipped.append(name)
            continue
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        tensors[name] = tensor
    stack_projections(tensors)
    positions = "embeddings.embed_positions.weight"
    if positions in tensors:
        tensors[positions] = tensors[positions][PAD + 1 :].clone()
    return tensors, skipped


def stack_projections(tensors: Dict[str, Tensor]) -> None:
    """Query, key and value become one matrix, in place."""
    for name in [name for name in tensors if ".self_attn.q_proj." in name]:
        parts = [name.replace("q_proj", f"{part}_proj") for part in "qkv"]
        if all(part in tensors for part in parts):
            stacked = torch.cat([tensors.pop(part) for part in parts])
            tensors[name.replace("q_proj", "qkv_proj")] = stacked


def read_sizes(model: Dict[str, Any], tensors: Dict[str, Tensor]) -> ElectraConfig:
    """Sizes by the options of the checkpoint, positions by its table."""
    cfg = ElectraConfig(**{name: model.get(name, default) for name, default in SIZES.items()})
    cfg.embedding_size = cfg.encoder_embed_dim
    positions = tensors.get("embeddings.embed_positions.weight", ())
    cfg.max_positions = len(positions) or cfg.max_positions
    return cfg


def check_tensors(tensors: Dict[str, Tensor], shapes: Dict[str, Tuple], where: str) -> None:
    """ValueError, naming them, if tensors are missing, unknown or misshapen."""
    wanted = {name for name in shapes if name.startswith(("embeddings.", "encoder."))}
    wanted.remove(TOKEN_TYPES)
    problems = [
        *list_missing(tensors, wanted),
        *(f"unknown {name}" for name in sorted(set(tensors) - wanted)),
        *list_misshapen(tensors, shapes, wanted),
    ]
    if problems:
        raise ValueError(f"{where}: {'; '.join(problems)}")
