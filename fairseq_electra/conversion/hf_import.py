"""Hugging Face's ELECTRA to fairseq: `import-hf`.

A folder there is one network with its own copy of the embeddings. On the way here both copies must
be equal, bit for bit, to be shared; otherwise the generator keeps its own.
"""

import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

import torch
from torch import Tensor

from fairseq_electra.conversion.hf_folder import (
    CLASSES,
    WORD_TABLE,
    LazyTensors,
    config_to_options,
    encoder_size,
    open_weights,
    read_config,
)
from fairseq_electra.conversion.key_map import (
    DISCRIMINATOR,
    EMBEDDINGS,
    GENERATOR,
    HF,
    Entry,
    check_names,
    check_shapes,
    list_entries,
    to_ours,
)
from fairseq_electra.conversion.networks import (
    complete,
    list_shapes,
    read_arch,
    refuse_arch,
    size_network,
)
from fairseq_electra.conversion.tokenizer_files import (
    Foreign,
    read_foreign,
)
from fairseq_electra.conversion.vocabulary import (
    foreign_rows,
    make_dictionary,
    rename_specials,
    reorder_words,
)
from fairseq_electra.data.tokenizer import RESERVED
from fairseq_electra.models.electra_config import (
    ElectraConfig,
    choose_sharing,
    fit_generator,
    generator_encoder_size,
    usual_generator_size,
)

LM_TABLE = "generator_lm_head.weight"
# Buffers of older versions, and the heads of fine-tuning, of which the encoder is taken.
NOT_TAKEN = re.compile(
    r"electra\.embeddings\.(position_ids|token_type_ids)$|(classifier|qa_outputs|sequence_summary)\."
)


class Network(NamedTuple):
    """A folder of transformers, opened."""

    folder: Path
    config: Dict[str, Any]
    tensors: LazyTensors
    foreign: Foreign


def import_hf(
    discriminator: Optional[Path],
    generator: Optional[Path],
    arch: Optional[str],
    generator_size: Optional[float],
) -> tuple:
    """A whole model of one or two folders, and its tokenizer or None.

    Args:
        arch: sizes of the discriminator where none is given.
        generator_size: of a new generator.

    Raises:
        ValueError: for what is not ELECTRA, does not fit together, or the plugin cannot express.
    """
    folders = {DISCRIMINATOR: discriminator, GENERATOR: generator}
    networks = {name: open_network(path) for name, path in folders.items() if path is not None}
    if not networks:
        raise ValueError("name a discriminator's folder, a generator's, or both")
    foreign = common_vocabulary(list(networks.values()))
    cfg = choose_sizes(networks, arch, generator_size)
    dictionary = make_dictionary(
        [word for word in rename_specials(foreign.words) if word not in RESERVED]
    )
    shapes = list_shapes(cfg, dictionary)
    tensors, notes = {}, []
    entries = {
        name: check_network(name, network, cfg, shapes, notes) for name, network in networks.items()
    }
    # the discriminator last, so that its embeddings are the ones where both are equal
    for name, network in reversed(networks.items()):
        tensors.update(to_ours(entries[name], network.tensors, HF))
    reorder_words(tensors, foreign_rows(foreign.words, dictionary))
    return complete(cfg, dictionary, tensors, notes), foreign.tokenizer


def open_network(folder: Path) -> Network:
    """Open a folder; ValueError if anything is missing or its vocabulary is of another size."""
    config = read_config(folder)
    network = Network(folder, config, open_weights(folder), read_foreign(folder))
    rows = len(network.foreign.words)
    if rows != config.get("vocab_size", rows):
        raise ValueError(
            f"{folder}: its vocabulary has {rows} entries, its config.json says vocab_size "
            f"{config['vocab_size']}"
        )
    return network


def common_vocabulary(networks: List[Network]) -> Foreign:
    """The vocabulary of all; ValueError if they differ."""
    first, *others = networks
    for other in others:
        if other.foreign.words != first.foreign.words:
            raise ValueError(f"{first.folder} and {other.folder} have different vocabularies")
    return first.foreign


def choose_sizes(
    networks: Dict[str, Network], arch: Optional[str], generator_size: Optional[float]
) -> ElectraConfig:
    """Sizes of both networks from those that are given."""
    generator = networks.get(GENERATOR)
    if DISCRIMINATOR in networks:
        refuse_arch(arch)
        cfg = ElectraConfig(**config_to_options(networks[DISCRIMINATOR].config))
    else:
        cfg = size_new_discriminator(generator, arch)
    if generator is None:
        cfg.generator_size = generator_size or usual_generator_size(cfg.encoder_embed_dim)
        generator_encoder_size(cfg)  # refuses a share without whole heads
        return cfg
    fit_generator(cfg, encoder_size(generator.config))
    if generator.config["max_position_embeddings"] != cfg.max_positions:
        raise ValueError(
            f"{generator.folder} has {generator.config['max_position_embeddings']} positions, not "
            f"the discriminator's number of positions, which is {cfg.max_positions} in "
            f"{networks[DISCRIMINATOR].folder}"
        )
    if DISCRIMINATOR in networks:
        keep_own_embeddings(cfg, networks[DISCRIMINATOR], generator)
    return cfg


def keep_own_embeddings(cfg: ElectraConfig, discriminator: Network, generator: Network) -> None:
    """Set the options that give the generator embeddings of its own, if they are not the same."""
    if share_embeddings(discriminator, generator):
        return
    cfg.embedding_sharing = "none"
    width, hidden = (generator.config[name] for name in ("embedding_size", "hidden_size"))
    cfg.generator_embedding_size = None if width == hidden else width


def size_new_discriminator(generator: Network, arch: Optional[str]) -> ElectraConfig:
    """Sizes of --arch with the generator's embeddings, layers and dropout."""
    if arch is None:
        raise ValueError("a generator alone does not say how large its discriminator is: --arch")
    cfg = read_arch(arch)
    given = config_to_options(generator.config)
    for name in ("encoder_layers", "embedding_size", "max_positions", "dropout"):
        setattr(cfg, name, given[name])
    return cfg


def share_embeddings(discriminator: Network, generator: Network) -> bool:
    """Whether both networks have the same embeddings, bit for bit."""
    names = [f"{hf}.weight" for _, hf, _, _ in EMBEDDINGS] + ["electra.embeddings.LayerNorm.bias"]
    return all(
        is_same(discriminator.tensors[name], generator.tensors[name])
        for name in names
        if name in discriminator.tensors and name in generator.tensors
    )


def is_same(a: Tensor, b: Tensor) -> bool:
    """Equal bit for bit, shape and type included."""
    return a.dtype == b.dtype and torch.equal(a, b)


def check_network(
    name: str, network: Network, cfg: ElectraConfig, shapes, notes: List[str]
) -> List[Entry]:
    """What is taken of a folder; what is not is noted.

    Raises:
        ValueError: for tensors that are missing, unknown or misshapen.
    """
    is_tuned = CLASSES[name] not in network.config.get("architectures", [CLASSES[name]])
    head = name == GENERATOR or not is_tuned
    has_own = choose_sharing(cfg) != "all"
    entries = [
        entry
        for entry in list_entries(name, size_network(name, cfg).layers, has_own, head)
        if entry.ours in shapes
    ]
    skipped = sorted(key for key in network.tensors if NOT_TAKEN.match(key))
    if LM_TABLE in network.tensors and name == GENERATOR:
        check_lm_table(network)
        skipped.append(LM_TABLE)
    where = str(network.folder)
    check_names(entries, set(network.tensors) - set(skipped), HF, where)
    check_shapes(entries, network.tensors, shapes, HF, where)
    notes += [f"not taken from {where}: {key}" for key in skipped if key != LM_TABLE]
    return entries


def check_lm_table(network: Network) -> None:
    """ValueError if the generator's output table is not its word table."""
    table = network.tensors[LM_TABLE]
    if WORD_TABLE in network.tensors and not is_same(table, network.tensors[WORD_TABLE]):
        raise ValueError(
            f"{network.folder}: {LM_TABLE} is not {WORD_TABLE}; here both are the same table"
        )
