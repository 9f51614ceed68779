"""Converted tensors -> all tensors of a model, what was not given drawn as for a new model.

Also the sizes: those that a generator has, and those that the plugin gives it.
"""

from argparse import Namespace
from typing import Dict, List, NamedTuple, Optional, Set, Tuple

import torch
from fairseq.data import Dictionary
from fairseq.models import ARCH_CONFIG_REGISTRY
from torch import Tensor

from fairseq_electra.checkpoints.fitting import fingerprint
from fairseq_electra.conversion.checkpoint_file import SIZES
from fairseq_electra.conversion.key_map import GENERATOR, show_shape
from fairseq_electra.models.electra import ElectraModel
from fairseq_electra.models.electra_config import (
    ElectraConfig,
    discriminator_encoder_size,
    generator_encoder_size,
)
from fairseq_electra.models.generators import Generator, build_encoder
from fairseq_electra.modules.encoder import EncoderSize
from fairseq_electra.modules.heads import DiscriminatorHead
from fairseq_electra.modules.shared_embeddings import add_deltas

SEED = 1  # of the parts that are new
NEW_PARTS = ("generator", "encoder", "discriminator_head")  # what a checkpoint may lack as a whole
TOKEN_TYPES = "embeddings.embed_token_types.weight"


class Converted(NamedTuple):
    """A whole model, and lines that say what was taken and what was not."""

    cfg: ElectraConfig
    dictionary: Dictionary
    tensors: Dict[str, Tensor]
    notes: List[str]


def read_arch(arch: str) -> ElectraConfig:
    """Sizes of an architecture by name; ValueError if ELECTRA has none of that name."""
    if not arch.startswith("electra") or arch not in ARCH_CONFIG_REGISTRY:
        names = sorted(name for name in ARCH_CONFIG_REGISTRY if name.startswith("electra"))
        raise ValueError(f"--arch {arch}: choose one of {', '.join(names)}")
    args = Namespace()
    ARCH_CONFIG_REGISTRY[arch](args)
    return ElectraConfig(**{name: value for name, value in vars(args).items() if name in SIZES})


def refuse_arch(arch: Optional[str]) -> None:
    """ValueError for an --arch beside a discriminator, whose own sizes hold."""
    if arch is not None:
        raise ValueError(
            f"--arch {arch} is for a generator alone: leave it out, a discriminator is given"
        )


def size_network(network: str, cfg: ElectraConfig) -> EncoderSize:
    """Sizes of the encoder of DISCRIMINATOR or GENERATOR."""
    return (generator_encoder_size if network == GENERATOR else discriminator_encoder_size)(cfg)


def list_shapes(cfg: ElectraConfig, dictionary: Dictionary) -> Dict[str, Tuple[int, ...]]:
    """Shapes of a model's tensors by name, without making them; of whole tables, not of deltas."""
    with torch.device("meta"):
        tensors = dict(ElectraModel(cfg, dictionary, pretrain=True).state_dict())
        add_deltas(tensors)
    return {
        name: tuple(tensor.shape)
        for name, tensor in tensors.items()
        if name != "dictionary_fingerprint"
    }


def list_missing(tensors: Dict[str, Tensor], wanted: Set[str]) -> List[str]:
    """What to say of each tensor that is wanted and not there."""
    return [f"missing {name}" for name in sorted(wanted - set(tensors))]


def list_misshapen(
    tensors: Dict[str, Tensor], shapes: Dict[str, Tuple[int, ...]], names: Set[str]
) -> List[str]:
    """What to say of each tensor of these names that is there in another shape than in `shapes`."""
    return [
        f"{name} is {show_shape(tensors[name].shape)}, not {show_shape(shapes[name])}"
        for name in sorted(names & set(tensors))
        if tuple(tensors[name].shape) != shapes[name]
    ]


def complete(
    cfg: ElectraConfig, dictionary: Dictionary, tensors: Dict[str, Tensor], notes: List[str]
) -> Converted:
    """A whole model of the given tensors, by our names and in the dictionary's order.

    Token types are zero where none are given; all foreign ELECTRAs have them, RoBERTa has not.

    A part of NEW_PARTS of which nothing is given starts from random weights, and a note says so.
    """
    shapes = list_shapes(cfg, dictionary)
    notes = [*notes, f"taken: {len(tensors)} of the model's {len(shapes)} tensors"]
    if TOKEN_TYPES not in tensors:
        tensors[TOKEN_TYPES] = torch.zeros(shapes[TOKEN_TYPES])
        notes.append(f"zero: {TOKEN_TYPES}")
    for part in NEW_PARTS:
        if not any(name.startswith(part + ".") for name in tensors):
            tensors.update(draw_part(part, cfg, len(dictionary)))
            notes.append(f"new, from random weights: {part}")
    tensors["dictionary_fingerprint"] = fingerprint(dictionary)
    missing = sorted(set(shapes) - set(tensors))
    assert not missing, missing
    names = ["dictionary_fingerprint", *shapes]  # in the model's order
    return Converted(cfg, dictionary, {name: tensors[name] for name in names}, notes)


def draw_part(part: str, cfg: ElectraConfig, num_tokens: int) -> Dict[str, Tensor]:
    """Initial weights of a part, the same ones every time."""
    size = discriminator_encoder_size(cfg)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        if part == "generator":
            module = Generator(cfg, num_tokens)
        elif part == "encoder":
            module = build_encoder(cfg, size, cfg.embedding_size)
        else:
            module = DiscriminatorHead(size.hidden)
    return {f"{part}.{name}": tensor for name, tensor in module.state_dict().items()}
