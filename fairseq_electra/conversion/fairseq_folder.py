"""A converted model -> a folder for fairseq: checkpoint.pt, dict.txt and the tokenizer's files."""

from pathlib import Path
from typing import List, Optional

from fairseq_electra.conversion.checkpoint_file import write_checkpoint
from fairseq_electra.conversion.networks import Converted
from fairseq_electra.conversion.writing import name_failure
from fairseq_electra.data.tokenizer import Tokenizer
from fairseq_electra.models.electra_config import choose_sharing


def write_model(
    folder: Path, out_dir: Path, converted: Converted, tokenizer: Optional[Tokenizer]
) -> List[str]:
    """Write checkpoint.pt, dict.txt and the tokenizer; lines on what is in them."""
    words = converted.dictionary.symbols[4:-1]
    lines = "".join(f"{word} 1\n" for word in words)
    with name_failure(folder):
        if tokenizer is not None:
            tokenizer.save(folder)
        (folder / "dict.txt").write_text(lines, encoding="utf-8")
    data = out_dir.resolve()
    write_checkpoint(folder / "checkpoint.pt", converted.cfg, converted.tensors, data)
    return [*converted.notes, describe_sizes(converted)]


def describe_sizes(converted: Converted) -> str:
    """The options with which fairseq-train builds the model."""
    cfg = converted.cfg
    sizes = (
        *("encoder_layers", "encoder_embed_dim", "encoder_ffn_embed_dim"),
        *("encoder_attention_heads", "embedding_size", "generator_size", "max_positions"),
        *("generator_layers", "generator_ffn_embed_dim", "generator_attention_heads"),
        "generator_embedding_size",
    )
    options = [
        f"--{name.replace('_', '-')} {getattr(cfg, name)}"
        for name in sizes
        if getattr(cfg, name) is not None
    ]
    if choose_sharing(cfg) != "all":
        options.append(f"--embedding-sharing {choose_sharing(cfg)}")
    return f"sizes: --arch electra {' '.join(options)}"
