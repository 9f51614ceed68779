"""fairseq's ELECTRA to Hugging Face: `export-hf`.

A folder there is one network with its own copy of the embeddings, or an encoder with a fine-tuned
head.
"""

import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from fairseq_electra.checkpoints.fitting import HEADS as CLASS_HEADS
from fairseq_electra.checkpoints.fitting import MLM_HEAD, fingerprint, hash_names
from fairseq_electra.conversion.checkpoint_file import (
    Checkpoint,
    find_data,
    read_checkpoint,
    read_sizes,
)
from fairseq_electra.conversion.hf_folder import (
    CLASSES,
    WEIGHTS,
    WORD_TABLE,
    make_config,
)
from fairseq_electra.conversion.key_map import (
    DISCRIMINATOR,
    GENERATOR,
    HF,
    Entry,
    list_entries,
    to_foreign,
)
from fairseq_electra.conversion.networks import (
    list_misshapen,
    list_missing,
    list_shapes,
    size_network,
)
from fairseq_electra.conversion.tokenizer_files import (
    list_words,
    name_specials,
    write_tokenizer,
)
from fairseq_electra.conversion.vocabulary import (
    WORD_ROWS,
    foreign_rows,
    invert,
    load_dictionary,
    reorder_words,
)
from fairseq_electra.conversion.writing import name_failure, write_safetensors
from fairseq_electra.data.tokenizer import INFO_FILE, Tokenizer, load_tokenizer
from fairseq_electra.models.electra_config import (
    ElectraConfig,
    choose_sharing,
    discriminator_encoder_size,
    own_table_width,
)
from fairseq_electra.modules.shared_embeddings import add_deltas

TWO_TOWERS = (
    "left out: generator, two towers, which transformers has no class for; the discriminator's "
    "logits are energies, not log-odds of being replaced"
)


class Source(NamedTuple):
    """A checkpoint of ours with all that belongs to it; words in the foreign order."""

    path: Path
    cfg: ElectraConfig
    tensors: Dict[str, Tensor]
    words: List[str]
    tokenizer: Optional[Tokenizer]
    labels: List[str]
    task: str  # that the checkpoint was trained with


def export_hf(path: Path, folder: Path, data: Optional[Path]) -> List[str]:
    """Write a folder for each network of a checkpoint, or for each fine-tuned head.

    Returns:
        Lines on what was written, and what could not be.

    Raises:
        ValueError: if it is no checkpoint of ELECTRA, or its data is not there or another's.
    """
    checkpoint = read_checkpoint(path)
    source = open_source(checkpoint, path, data)
    heads = list_class_heads(source.tensors)
    known = set()
    lines = []
    for name in (DISCRIMINATOR, GENERATOR):
        if not has_head(name, source.tensors):
            continue
        if name == GENERATOR and source.cfg.two_tower_generator:
            known.update(key for key in source.tensors if key.startswith("generator."))
            lines.append(TWO_TOWERS)
        else:
            known.update(export_network(name, source, folder / name))
            lines.append(f"{name}: {CLASSES[name]}")
    for head in heads:
        export_head = HEAD_EXPORTS.get(source.task, export_class_head)
        lines.append(export_head(head, source, folder / head))
        known.update(entry.ours for entry in encoder_entries(source))
    known.update(name for name in source.tensors if name.startswith(CLASS_HEADS))
    word_head = {name for name in source.tensors if name.startswith(MLM_HEAD)}
    if not lines:
        raise ValueError(
            f"{path} has neither ELECTRA's networks nor a fine-tuned head: nothing was written "
            "(of electra_mlm, fine-tune a checkpoint first)"
        )
    if word_head:
        lines.append(f"left out: {MLM_HEAD[:-1]}, of --mlm-updates or --clm-weight")
    unknown = sorted(set(source.tensors) - known - word_head - {"dictionary_fingerprint"})
    if unknown:
        raise ValueError(f"{path}: unknown tensors {', '.join(unknown)}")
    return lines


def open_source(checkpoint: Checkpoint, path: Path, data: Optional[Path]) -> Source:
    """Find dictionary, tokenizer and labels, and put the words in the foreign order."""
    cfg = read_sizes(checkpoint, path)
    folder = find_data(checkpoint, path, data)
    inner = folder / "input0"
    dict_path = (folder if (folder / "dict.txt").is_file() else inner) / "dict.txt"
    if not dict_path.is_file():
        raise ValueError(f"no dict.txt in {folder}: name its data directory with --data")
    dictionary = load_dictionary(dict_path)
    tensors = dict(checkpoint.tensors)
    add_deltas(tensors)
    check_tensors(tensors, list_shapes(cfg, dictionary), path)
    check_fingerprint(tensors, dictionary, dict_path)
    has_tokenizer = (folder / INFO_FILE).is_file()
    tokenizer = load_tokenizer(folder) if has_tokenizer else None
    words = list_words(tokenizer, dictionary)
    reorder_words(tensors, invert(foreign_rows(words, dictionary)))
    own, given = (Path(str(checkpoint.task.get("data", folder))) / "label", folder / "label")
    labels = read_labels((given if given.is_dir() else own) / "dict.txt")
    return Source(path, cfg, tensors, words, tokenizer, labels, str(checkpoint.task.get("_name")))


def check_tensors(tensors: Dict[str, Tensor], shapes: Dict[str, Tuple], path: Path) -> None:
    """ValueError if the encoder is not there, or tensors have other shapes than the model's.

    The number of words is left to `check_fingerprint`.
    """
    encoder = {name for name in shapes if name.startswith(("embeddings.", "encoder."))}
    problems = list_missing(tensors, encoder)
    problems += list_misshapen(tensors, shapes, set(shapes) - set(WORD_ROWS))
    if problems:
        raise ValueError(f"{path}: {'; '.join(problems)}")


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
    size = size_network(name, cfg)
    width = own_table_width(cfg) if is_generator else None
    embedding_size = cfg.embedding_size if width is None else width
    has_own = width is not None or choose_sharing(cfg) == "gdes"
    entries = list_entries(name, size.layers, has_own)
    entries = keep_existing(entries, embedding_size, size.hidden)
    missing = [entry.ours for entry in entries if entry.ours not in source.tensors]
    if missing:
        raise ValueError(f"{source.path} lacks {', '.join(missing)}")
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
    if str(source.cfg.pooling) != "first":
        tensors = to_foreign(encoder_entries(source), source.tensors, HF)
        write_folder(folder, describe_encoder(source, "ElectraModel"), tensors, source)
        return (
            f"{head}: ElectraModel, the encoder alone; the head is not written, because it reads "
            "the mean of all tokens (--pooling mean), and ElectraForSequenceClassification <s>"
        )
    if 2 * classes > hidden:
        return (
            f"{head}: not written; ElectraForSequenceClassification is the same function only for "
            f"at most {hidden // 2} classes of this size, not {classes}"
        )
    config = describe_encoder(source, "ElectraForSequenceClassification")
    config.update(describe_labels(source.labels, classes))
    tensors = to_foreign(encoder_entries(source), source.tensors, HF)
    tensors.update(double_head(weight, bias))
    write_folder(folder, config, tensors, source)
    return (
        f"{head}: ElectraForSequenceClassification, the same function (to train it further is "
        "something else: there the head has two layers)"
    )


def export_tagging_head(head: str, source: Source, folder: Path) -> str:
    """Write a head of --task electra_tagging as ElectraForTokenClassification; a line on it.

    Raises:
        ValueError: if the labels are not there or not those it was trained with.
    """
    prefix = f"{CLASS_HEADS}{head}."
    if hash_names(source.labels) != source.tensors[prefix + "label_fingerprint"]:
        raise ValueError(
            f"the labels of {head} are not those it was trained with, or there is no "
            "label/dict.txt: name its data directory with --data"
        )
    config = describe_encoder(source, "ElectraForTokenClassification")
    config.update(name_labels(source.labels))
    tensors = to_foreign(encoder_entries(source), source.tensors, HF)
    for name in ("weight", "bias"):
        tensors[f"classifier.{name}"] = source.tensors[f"{prefix}out_proj.{name}"]
    write_folder(folder, config, tensors, source)
    return f"{head}: ElectraForTokenClassification"


def export_answer_head(head: str, source: Source, folder: Path) -> str:
    """Write a linear head of --task electra_answers as ElectraForQuestionAnswering; a line on it.

    The joint head is no head there: the encoder alone is written then, as ElectraModel.
    """
    prefix = f"{CLASS_HEADS}{head}.out_proj."
    tensors = to_foreign(encoder_entries(source), source.tensors, HF)
    if prefix + "weight" not in source.tensors:
        write_folder(folder, describe_encoder(source, "ElectraModel"), tensors, source)
        return (
            f"{head}: ElectraModel, the encoder alone; the head is not written, because the end "
            "depends on the start in it, and ElectraForQuestionAnswering is one Linear (fine-tune "
            "with --answer-head linear for that)"
        )
    for name in ("weight", "bias"):
        tensors[f"qa_outputs.{name}"] = source.tensors[prefix + name]
    write_folder(folder, describe_encoder(source, "ElectraForQuestionAnswering"), tensors, source)
    return f"{head}: ElectraForQuestionAnswering"


# by task; export_class_head for the others
HEAD_EXPORTS = {
    "electra_tagging": export_tagging_head,
    "electra_answers": export_answer_head,
}


def describe_encoder(source: Source, class_name: str) -> Dict[str, Any]:
    """A config.json for the discriminator's encoder as part of a class."""
    size = discriminator_encoder_size(source.cfg)
    config = make_config(
        source.cfg, size, source.cfg.embedding_size, source.words, pad_number(source)
    )
    return {**config, "architectures": [class_name]}


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
    return {"problem_type": "single_label_classification", **name_labels(labels)}


def name_labels(labels: List[str]) -> Dict[str, Any]:
    """The part of config.json that names the classes."""
    return {
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
    }


def write_folder(
    folder: Path, config: Dict[str, Any], tensors: Dict[str, Tensor], source: Source
) -> None:
    """Write config.json, model.safetensors and the tokenizer."""
    folder.mkdir()
    config["dtype"] = str(tensors[WORD_TABLE].dtype).removeprefix("torch.")
    with name_failure(folder / "config.json"):
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    write_safetensors(tensors, folder / WEIGHTS)
    with name_failure(folder):
        write_tokenizer(folder, source.tokenizer, source.words, source.cfg.max_positions)
