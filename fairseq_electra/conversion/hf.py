"""Hugging Face's ELECTRA from and to fairseq: `import-hf` and `export-hf`.

A folder there is one network with its own copy of the embeddings. On the way here both copies must
be equal, bit for bit, to be shared; otherwise the generator keeps its own.
"""

import json
import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

import torch
from torch import Tensor

from fairseq_electra.checkpoint import HEADS as CLASS_HEADS
from fairseq_electra.checkpoint import fingerprint
from fairseq_electra.conversion.checkpoint_file import Checkpoint, read_checkpoint, read_sizes
from fairseq_electra.conversion.hf_folder import (
    WEIGHTS,
    LazyTensors,
    config_to_options,
    encoder_size,
    make_config,
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
    to_foreign,
    to_ours,
)
from fairseq_electra.conversion.networks import (
    check_generator_size,
    complete,
    list_shapes,
    read_arch,
    share_of,
)
from fairseq_electra.conversion.tokenizer_files import (
    Foreign,
    list_words,
    name_specials,
    read_foreign,
    write_tokenizer,
)
from fairseq_electra.conversion.vocabulary import (
    foreign_rows,
    invert,
    load_dictionary,
    make_dictionary,
    rename_specials,
    reorder_words,
)
from fairseq_electra.data.tokenizer import INFO_FILE, RESERVED, Tokenizer, load_tokenizer
from fairseq_electra.models.electra import (
    ElectraConfig,
    discriminator_encoder_size,
    generator_encoder_size,
)

LM_TABLE = "generator_lm_head.weight"
WORD_TABLE = "electra.embeddings.word_embeddings.weight"
# Buffers of older versions, and the heads of fine-tuning, of which the encoder is taken.
NOT_TAKEN = re.compile(
    r"electra\.embeddings\.(position_ids|token_type_ids)$|(classifier|qa_outputs|sequence_summary)\."
)
CLASSES = {DISCRIMINATOR: "ElectraForPreTraining", GENERATOR: "ElectraForMaskedLM"}


class Network(NamedTuple):
    """A folder of transformers, opened."""

    folder: Path
    config: Dict[str, Any]
    tensors: LazyTensors
    foreign: Foreign


# --- from Hugging Face ---


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
    # the discriminator last, so that its embeddings are the ones where both are equal
    for name, network in reversed(networks.items()):
        tensors.update(read_network(name, network, cfg, shapes, notes))
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
        cfg = ElectraConfig(**config_to_options(networks[DISCRIMINATOR].config))
    else:
        cfg = size_new_discriminator(generator, arch)
    if generator is None:
        cfg.generator_size = generator_size or cfg.generator_size
        generator_encoder_size(cfg)  # refuses a share without whole heads
        return cfg
    cfg.generator_size = share_of(generator.config["hidden_size"], cfg)
    check_generator_size(cfg, encoder_size(generator.config))
    if generator.config["max_position_embeddings"] != cfg.max_positions:
        raise ValueError(f"{generator.folder}: it has not the discriminator's number of positions")
    if DISCRIMINATOR in networks:
        cfg.untie_embeddings = not share_embeddings(networks[DISCRIMINATOR], generator)
    return cfg


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
    """Whether both networks have the same embeddings, bit for bit.

    Raises:
        ValueError: if not, and the generator's size is not that of its embeddings.
    """
    names = [f"{hf}.weight" for _, hf, _, _ in EMBEDDINGS] + ["electra.embeddings.LayerNorm.bias"]
    different = [
        name
        for name in names
        if name in discriminator.tensors
        and name in generator.tensors
        and not is_same(discriminator.tensors[name], generator.tensors[name])
    ]
    config = generator.config
    if different and config["embedding_size"] != config["hidden_size"]:
        raise ValueError(
            f"{generator.folder}: its embeddings are not the discriminator's "
            f"({', '.join(different)}), and a generator with its own needs an embedding_size "
            f"({config['embedding_size']}) that is its hidden_size ({config['hidden_size']})"
        )
    return not different


def is_same(a: Tensor, b: Tensor) -> bool:
    """Equal bit for bit, shape and type included."""
    return a.dtype == b.dtype and torch.equal(a, b)


def read_network(
    name: str, network: Network, cfg: ElectraConfig, shapes, notes: List[str]
) -> Dict[str, Tensor]:
    """Our tensors of a folder, words in its order; what is not taken is noted."""
    head = CLASSES[name] in network.config.get("architectures", [CLASSES[name]])
    entries = [
        entry
        for entry in list_entries(name, cfg.encoder_layers, cfg.untie_embeddings, head)
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
    return to_ours(entries, network.tensors, HF)


def check_lm_table(network: Network) -> None:
    """ValueError if the generator's output table is not its word table."""
    table = network.tensors[LM_TABLE]
    if WORD_TABLE in network.tensors and not is_same(table, network.tensors[WORD_TABLE]):
        raise ValueError(
            f"{network.folder}: {LM_TABLE} is not {WORD_TABLE}; here both are the same table"
        )


# --- to Hugging Face ---


class Source(NamedTuple):
    """A checkpoint of ours with all that belongs to it; words in the foreign order."""

    cfg: ElectraConfig
    tensors: Dict[str, Tensor]
    words: List[str]
    tokenizer: Optional[Tokenizer]
    labels: List[str]


def export_hf(path: Path, folder: Path, data: Optional[Path]) -> List[str]:
    """Write a folder for each network of a checkpoint, or for each fine-tuned head.

    Returns:
        Lines on what was written, and what could not be.

    Raises:
        ValueError: if it is no checkpoint of ELECTRA, or its data is not there or another's.
    """
    checkpoint = read_checkpoint(path)
    source = open_source(checkpoint, read_sizes(checkpoint, path), data)
    heads = list_class_heads(source.tensors)
    known = set()
    lines = []
    for name in (DISCRIMINATOR, GENERATOR):
        if has_head(name, source.tensors):
            known.update(export_network(name, source, folder / name))
            lines.append(f"{name}: {CLASSES[name]}")
    for head in heads:
        lines.append(export_class_head(head, source, folder / head))
        known.update(entry.ours for entry in encoder_entries(source))
    known.update(name for name in source.tensors if name.startswith(CLASS_HEADS))
    unknown = sorted(set(source.tensors) - known - {"dictionary_fingerprint"})
    if unknown:
        raise ValueError(f"{path}: unknown tensors {', '.join(unknown)}")
    return lines


def open_source(checkpoint: Checkpoint, cfg: ElectraConfig, data: Optional[Path]) -> Source:
    """Find dictionary, tokenizer and labels, and put the words in the foreign order."""
    folder = data or Path(str(checkpoint.task["data"]).split(":")[0])
    inner = folder / "input0"
    dict_path = (folder if (folder / "dict.txt").is_file() else inner) / "dict.txt"
    if not dict_path.is_file():
        raise ValueError(f"no dict.txt in {folder}: name its data directory with --data")
    dictionary = load_dictionary(dict_path)
    tensors = dict(checkpoint.tensors)
    check_fingerprint(tensors, dictionary, dict_path)
    has_tokenizer = (folder / INFO_FILE).is_file()
    tokenizer = load_tokenizer(folder) if has_tokenizer else None
    words = list_words(tokenizer, dictionary)
    reorder_words(tensors, invert(foreign_rows(words, dictionary)))
    labels = Path(str(checkpoint.task["data"])) / "label" / "dict.txt"
    return Source(cfg, tensors, words, tokenizer, read_labels(labels))


def check_fingerprint(tensors: Dict[str, Tensor], dictionary, path: Path) -> None:
    """ValueError if the model was trained with another dictionary."""
    saved = tensors.get("dictionary_fingerprint")
    rows = len(tensors["embeddings.embed_tokens.weight"])
    if rows != len(dictionary) or (saved is not None and saved != fingerprint(dictionary)):
        raise ValueError(
            f"{path} is not the dictionary that the checkpoint was trained with ({rows} entries): "
            "name its data directory with --data"
        )


def read_labels(path: Path) -> List[str]:
    """Names of the classes in the order of their numbers; [] if they are not there."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    names = [line.rpartition(" ")[0] for line in lines]
    return [name for name in names if not name.startswith("madeupword")]


def has_head(name: str, tensors: Dict[str, Tensor]) -> bool:
    """Whether a checkpoint has a network with its pre-training head."""
    prefix = "discriminator_head." if name == DISCRIMINATOR else "generator."
    return any(key.startswith(prefix) for key in tensors)


def list_class_heads(tensors: Dict[str, Tensor]) -> List[str]:
    """Names of the classification heads."""
    return sorted({key.split(".")[1] for key in tensors if key.startswith(CLASS_HEADS)})


def encoder_entries(source: Source) -> List[Entry]:
    """The discriminator's entries without a head."""
    entries = list_entries(DISCRIMINATOR, source.cfg.encoder_layers, with_head=False)
    return keep_existing(entries, source.cfg.embedding_size, source.cfg.encoder_embed_dim)


def keep_existing(entries: List[Entry], embedding_size: int, hidden: int) -> List[Entry]:
    """The entries that a network has, with embeddings_project only where sizes differ."""
    if embedding_size != hidden:
        return entries
    return [entry for entry in entries if "embeddings_project" not in entry.ours]


def export_network(name: str, source: Source, folder: Path) -> List[str]:
    """Write a network with its pre-training head; names of our tensors it is made of."""
    cfg = source.cfg
    is_generator = name == GENERATOR
    size = generator_encoder_size(cfg) if is_generator else discriminator_encoder_size(cfg)
    is_untied = is_generator and cfg.untie_embeddings
    embedding_size = size.hidden if is_untied else cfg.embedding_size
    entries = list_entries(name, cfg.encoder_layers, cfg.untie_embeddings)
    entries = keep_existing(entries, embedding_size, size.hidden)
    missing = [entry.ours for entry in entries if entry.ours not in source.tensors]
    if missing:
        raise ValueError(f"the checkpoint lacks {', '.join(missing)}")
    config = make_config(cfg, size, embedding_size, source.words, pad_number(source))
    config["architectures"] = [CLASSES[name]]
    write_folder(folder, config, to_foreign(entries, source.tensors, HF), source)
    return [entry.ours for entry in entries]


def pad_number(source: Source) -> int:
    """Number of the padding entry at Hugging Face."""
    return source.words.index(name_specials(source.words)["pad"])


def export_class_head(head: str, source: Source, folder: Path) -> str:
    """Write a classification head as ElectraForSequenceClassification; a line on it.

    There a dense layer and a GELU come before the last one. gelu(x) - gelu(-x) = x, so the class
    logits and their negatives go through the dense layer, and the last one subtracts.
    """
    prefix = f"{CLASS_HEADS}{head}.out_proj."
    weight, bias = source.tensors[prefix + "weight"], source.tensors[prefix + "bias"]
    classes, hidden = weight.shape
    if 2 * classes > hidden:
        return (
            f"{head}: not written; ElectraForSequenceClassification is the same function only for "
            f"at most {hidden // 2} classes of this size, not {classes}"
        )
    size = discriminator_encoder_size(source.cfg)
    config = make_config(source.cfg, size, source.cfg.embedding_size, source.words, 0)
    config["pad_token_id"] = pad_number(source)
    config["architectures"] = ["ElectraForSequenceClassification"]
    config.update(describe_labels(source.labels, classes))
    tensors = to_foreign(encoder_entries(source), source.tensors, HF)
    tensors.update(double_head(weight, bias))
    write_folder(folder, config, tensors, source)
    return (
        f"{head}: ElectraForSequenceClassification, the same function (to train it further is "
        "something else: there the head has two layers)"
    )


def double_head(weight: Tensor, bias: Tensor) -> Dict[str, Tensor]:
    """The two layers there that do what one Linear (N, C) does here."""
    classes, hidden = weight.shape
    dense, dense_bias = weight.new_zeros(hidden, hidden), bias.new_zeros(hidden)
    dense[: 2 * classes] = torch.cat([weight, -weight])
    dense_bias[: 2 * classes] = torch.cat([bias, -bias])
    last = weight.new_zeros(classes, hidden)
    eye = torch.eye(classes, dtype=weight.dtype)
    last[:, : 2 * classes] = torch.cat([eye, -eye], dim=1)
    return {
        "classifier.dense.weight": dense,
        "classifier.dense.bias": dense_bias,
        "classifier.out_proj.weight": last,
        "classifier.out_proj.bias": torch.zeros_like(bias),
    }


def describe_labels(labels: List[str], classes: int) -> Dict[str, Any]:
    """The part of config.json on classes; one class is a regression."""
    if classes == 1:
        return {"problem_type": "regression", "id2label": {"0": "LABEL_0"}}
    if len(labels) != classes:
        labels = [f"LABEL_{number}" for number in range(classes)]
    return {
        "problem_type": "single_label_classification",
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
    }


def write_folder(
    folder: Path, config: Dict[str, Any], tensors: Dict[str, Tensor], source: Source
) -> None:
    """Write config.json, model.safetensors and the tokenizer."""
    try:
        from safetensors.torch import save_file
    except ImportError:
        raise ValueError("safetensors is not installed: pip install '.[hf]'") from None
    folder.mkdir()
    config["dtype"] = str(tensors[WORD_TABLE].dtype).removeprefix("torch.")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    write_tokenizer(folder, source.tokenizer, source.words, source.cfg.max_positions)
