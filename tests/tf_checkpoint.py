"""Checkpoints as the authors' code writes them, by TensorFlow with random weights."""

import torch

from fairseq_electra.conversion.key_map import TF, list_entries, to_foreign
from fairseq_electra.conversion.networks import list_shapes
from fairseq_electra.conversion.vocabulary import make_dictionary, rename_specials
from fairseq_electra.data.tokenizer import RESERVED
from fairseq_electra.models.electra_config import ElectraConfig, choose_sharing
from foreign import VOCABULARY

CFG = {
    "encoder_layers": 2,
    "encoder_embed_dim": 128,
    "encoder_ffn_embed_dim": 96,
    "encoder_attention_heads": 2,
    "embedding_size": 32,
    "generator_size": 0.5,
    "max_positions": 24,
}


def make_variables(*networks, **options):
    """Random variables of the named networks, by TensorFlow's names."""
    cfg = ElectraConfig(**{**CFG, **options})
    words = [word for word in rename_specials(VOCABULARY) if word not in RESERVED]
    shapes = list_shapes(cfg, make_dictionary(words))
    torch.manual_seed(7)
    ours = {name: torch.randn(shape) for name, shape in shapes.items()}
    variables = {}
    for network in networks:
        entries = list_entries(network, cfg.encoder_layers, choose_sharing(cfg) == "none")
        variables.update(to_foreign([e for e in entries if e.ours in shapes], ours, TF))
    return {name: tensor.numpy() for name, tensor in variables.items()}


def write(folder, variables):
    """A checkpoint and its vocab.txt, and the options that name them."""
    names = list(variables)
    import tensorflow

    tensorflow.raw_ops.SaveV2(
        prefix=str(folder / "model.ckpt"),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[variables[name] for name in names],
    )
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    return ["import-tf", str(folder / "model.ckpt"), "--vocab", str(folder / "vocab.txt")]
