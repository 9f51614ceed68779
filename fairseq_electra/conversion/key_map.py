"""Names of ELECTRA's tensors here, at Hugging Face and in the authors' TensorFlow code.

One table of modules; both directions come from it. Query, key and value are one matrix here, their
rows in that order. TensorFlow's kernels are transposed.
"""

from typing import Dict, Iterable, List, Mapping, NamedTuple, Tuple

import torch
from torch import Tensor

DISCRIMINATOR, GENERATOR = "discriminator", "generator"
HF, TF = "hf", "tf"

# Kinds of modules: ends of names (ours and Hugging Face's, TensorFlow's), and whether transposed.
LINEAR = ((".weight", "/kernel", True), (".bias", "/bias", False))
NORM = ((".weight", "/gamma", False), (".bias", "/beta", False))
TABLE = ((".weight", "", False),)
BIAS = ((".bias", "", False),)

# Ours, Hugging Face's, TensorFlow's. {part} is query, key and value. A generator's names begin with
# "generator." here and "generator/" in TensorFlow; a folder of Hugging Face always says "electra".
EMBEDDINGS = (
    ("embeddings.embed_tokens", "electra.embeddings.word_embeddings", "word_embeddings", TABLE),
    (
        "embeddings.embed_positions",
        "electra.embeddings.position_embeddings",
        "position_embeddings",
        TABLE,
    ),
    (
        "embeddings.embed_token_types",
        "electra.embeddings.token_type_embeddings",
        "token_type_embeddings",
        TABLE,
    ),
    ("embeddings.layer_norm", "electra.embeddings.LayerNorm", "LayerNorm", NORM),
)
LAYER = (
    ("self_attn.qkv_proj", "attention.self.{part}", LINEAR),
    ("self_attn.out_proj", "attention.output.dense", LINEAR),
    ("self_attn_layer_norm", "attention.output.LayerNorm", NORM),
    ("fc1", "intermediate.dense", LINEAR),
    ("fc2", "output.dense", LINEAR),
    ("final_layer_norm", "output.LayerNorm", NORM),
)
HEADS = {
    DISCRIMINATOR: (
        (
            "discriminator_head.dense",
            "discriminator_predictions.dense",
            "discriminator_predictions/dense",
            LINEAR,
        ),
        (
            "discriminator_head.out_proj",
            "discriminator_predictions.dense_prediction",
            "discriminator_predictions/dense_1",
            LINEAR,
        ),
    ),
    GENERATOR: (
        (
            "generator.head.dense",
            "generator_predictions.dense",
            "generator_predictions/dense",
            LINEAR,
        ),
        (
            "generator.head.layer_norm",
            "generator_predictions.LayerNorm",
            "generator_predictions/LayerNorm",
            NORM,
        ),
        ("generator.head", "generator_lm_head", "generator_predictions/output_bias", BIAS),
    ),
}
PARTS = ("query", "key", "value")


class Entry(NamedTuple):
    """One tensor here and the tensors it is elsewhere, several where they are stacked here."""

    ours: str
    hf: Tuple[str, ...]
    tf: Tuple[str, ...]
    is_transposed: bool  # in TensorFlow

    def names(self, side: str) -> Tuple[str, ...]:
        """The names at HF or TF."""
        return self.hf if side == HF else self.tf


def list_entries(
    network: str, layers: int, is_untied: bool = False, with_head: bool = True
) -> List[Entry]:
    """Every tensor of a network, its embeddings included; what a size does not have as well.

    Args:
        network: DISCRIMINATOR or GENERATOR.
        is_untied: whether the generator has embeddings of its own; otherwise its embeddings are
            those of the discriminator.
        with_head: leave the pre-training head out if false.
    """
    is_generator = network == GENERATOR
    prefix, scope = ("generator.", "generator") if is_generator else ("", "electra")
    own = is_generator and is_untied
    modules = [
        (
            (prefix if own else "") + ours,
            hf,
            f"{scope if own else 'electra'}/embeddings/{tf}",
            kind,
        )
        for ours, hf, tf, kind in EMBEDDINGS
    ]
    project = "embeddings_project"
    modules.append(
        (f"{prefix}encoder.{project}", f"electra.{project}", f"{scope}/{project}", LINEAR)
    )
    modules += [module for n in range(layers) for module in list_layer(n, prefix, scope)]
    modules += HEADS[network] if with_head else ()
    return [entry for module in modules for entry in list_tensors(*module)]


def list_layer(n: int, prefix: str, scope: str) -> List[Tuple]:
    """The modules of layer n."""
    return [
        (
            f"{prefix}encoder.layers.{n}.{ours}",
            f"electra.encoder.layer.{n}.{name}",
            f"{scope}/encoder/layer_{n}/{name.replace('.', '/')}",
            kind,
        )
        for ours, name, kind in LAYER
    ]


def list_tensors(ours: str, hf: str, tf: str, kind) -> List[Entry]:
    """The tensors of a module."""
    parts = PARTS if "{part}" in hf else ("",)
    return [
        Entry(
            ours + end,
            tuple(hf.format(part=part) + end for part in parts),
            tuple(tf.format(part=part) + tf_end for part in parts),
            is_transposed,
        )
        for end, tf_end, is_transposed in kind
    ]


def check_names(entries: Iterable[Entry], names: Iterable[str], side: str, where: str) -> None:
    """ValueError, naming them, if tensors are missing or not in the map."""
    wanted = {name for entry in entries for name in entry.names(side)}
    problems = [
        f"{problem} {', '.join(found)}"
        for problem, found in (
            ("missing tensors", sorted(wanted.difference(names))),
            ("unknown tensors", sorted(set(names) - wanted)),
        )
        if found
    ]
    if problems:
        raise ValueError(f"{where}: {'; '.join(problems)}")


def check_shapes(
    entries: Iterable[Entry],
    foreign: Mapping[str, Tensor],
    shapes: Mapping[str, Tuple],
    side: str,
    where: str,
) -> None:
    """ValueError, naming them, if tensors have other shapes than the configuration says."""
    wrong = []
    for entry in entries:
        names = entry.names(side)
        rows, *rest = shapes[entry.ours] or (1,)
        shape = (rows // len(names), *rest)
        shape = shape[::-1] if side == TF and entry.is_transposed else shape
        for name in names:
            found = tuple(foreign[name].shape)
            if found != shape:
                wrong.append(f"{name} is {show_shape(found)}, not {show_shape(shape)}")
            elif not foreign[name].is_floating_point():
                wrong.append(f"{name} holds {foreign[name].dtype}, not floating-point numbers")
    if wrong:
        raise ValueError(f"{where}: misshapen tensors: {'; '.join(wrong)}")


def show_shape(shape: Tuple) -> str:
    """2 x 3 for (2, 3)."""
    return " x ".join(map(str, shape))


def to_ours(
    entries: Iterable[Entry], foreign: Mapping[str, Tensor], side: str
) -> Dict[str, Tensor]:
    """Our tensors of a network, by our names; rows of words in the foreign order."""
    ours = {}
    for entry in entries:
        parts = [foreign[name] for name in entry.names(side)]
        if side == TF and entry.is_transposed:
            parts = [part.t() for part in parts]
        ours[entry.ours] = torch.cat(parts) if len(parts) > 1 else parts[0].contiguous()
    return ours


def to_foreign(
    entries: Iterable[Entry], ours: Mapping[str, Tensor], side: str
) -> Dict[str, Tensor]:
    """The reverse of `to_ours`; views of the same memory where nothing is transposed."""
    foreign = {}
    for entry in entries:
        names = entry.names(side)
        for name, part in zip(names, ours[entry.ours].chunk(len(names)), strict=True):
            is_transposed = side == TF and entry.is_transposed
            foreign[name] = part.t().contiguous() if is_transposed else part
    return foreign
