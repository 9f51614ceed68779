"""A model's folder as Hugging Face's transformers has it: config.json and model.safetensors.

Read and checked here; nothing of transformers is imported, and no pickle is read.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Dict, Iterator, List, Sequence, Tuple

from torch import Tensor

from fairseq_electra.conversion.key_map import DISCRIMINATOR, GENERATOR
from fairseq_electra.models.electra_config import ElectraConfig, check_config
from fairseq_electra.modules.encoder import LAYER_NORM_EPS, EncoderSize

WEIGHTS = "model.safetensors"
WORD_TABLE = "electra.embeddings.word_embeddings.weight"
ELECTRA, BERT = "electra", "bert"  # model_type
COMMANDS = {ELECTRA: "import-hf", BERT: "import-bert"}
CLASSES = {DISCRIMINATOR: "ElectraForPreTraining", GENERATOR: "ElectraForMaskedLM"}
NUM_TOKEN_TYPES = 2
Field = Tuple[str, str, Any]
# transformers' name, ours, and its default where config.json leaves it out
FIELDS = (
    ("num_hidden_layers", "encoder_layers", 12),
    ("hidden_size", "encoder_embed_dim", 256),
    ("intermediate_size", "encoder_ffn_embed_dim", 1024),
    ("num_attention_heads", "encoder_attention_heads", 4),
    ("embedding_size", "embedding_size", 128),
    ("max_position_embeddings", "max_positions", 512),
    ("hidden_dropout_prob", "dropout", 0.1),
    ("attention_probs_dropout_prob", "attention_dropout", 0.1),
)
# BERT's, whose embeddings are as wide as its hidden size.
BERT_DEFAULTS = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
BERT_FIELDS = tuple(
    (name, ours, BERT_DEFAULTS.get(name, default))
    for name, ours, default in FIELDS
    if name != "embedding_size"
)
# What the plugin has no option for: config.json must say this, or nothing.
FIXED = {
    "hidden_act": "gelu",
    "layer_norm_eps": LAYER_NORM_EPS,
    "type_vocab_size": NUM_TOKEN_TYPES,
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}


class LazyTensors(Mapping):
    """Tensors of a .safetensors file by name, each read when asked for."""

    def __init__(self, path: Path):
        try:
            from safetensors import SafetensorError, safe_open
        except ImportError:
            raise ValueError("safetensors is not installed: pip install '.[hf]'") from None
        try:
            self.file = safe_open(str(path), framework="pt")
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is damaged or cut short: {error}") from None
        self.names = frozenset(self.file.keys())

    def __getitem__(self, name: str) -> Tensor:
        return self.file.get_tensor(name)

    def __contains__(self, name: object) -> bool:  # Mapping's would read the tensor
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def read_json(path: Path, kind: type = dict) -> Any:
    """A JSON object, or a list; ValueError, naming the file, if it is not there or not one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path.parent} has no {path.name}") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(content, kind):
        raise ValueError(f"{path}: not a JSON {'object' if kind is dict else 'list'}")
    return content


def read_config(
    folder: Path, model: str = ELECTRA, fields: Sequence[Field] = FIELDS
) -> Dict[str, Any]:
    """A model's config.json with every field of `fields` in it.

    Args:
        model: ELECTRA or BERT; the oldest configurations of BERT do not say what they are of.

    Raises:
        ValueError: if it is another model's, or says what this plugin has no option for.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    config = read_json(folder / "config.json")
    found = config.get("model_type", BERT if model == BERT else None)
    if found != model:
        raise ValueError(f"{folder} holds a model {found}, not {model}{name_command(found)}")
    config = {**{name: default for name, _, default in fields}, **config}
    check_fields(config, folder / "config.json", fields)
    for name, value in FIXED.items():
        is_of_head = model == BERT and name == "tie_word_embeddings"  # which is not taken
        if config.get(name, value) != value and not is_of_head:
            raise ValueError(f"{folder}: {name} is {config[name]}; only {value} can be converted")
    return config


def name_command(model: Any) -> str:
    """Where a model of another kind is taken, for the end of an error."""
    command = COMMANDS.get(model) if isinstance(model, str) else None
    return f" (model_type in config.json){f': {command} takes it' if command else ''}"


def check_fields(config: Dict[str, Any], path: Path, fields: Sequence[Field]) -> None:
    """ValueError, naming file and field, for a value that no model can have."""
    for name, ours, _ in fields:
        try:
            check_config(ElectraConfig(**{ours: config[name]}))
        except ValueError as error:
            raise ValueError(f"{path}: {name}, here {error}") from None
    names = config.get("architectures", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: architectures is not a list of names")


def open_weights(folder: Path) -> LazyTensors:
    """The tensors of a folder; ValueError if they are sharded, pickled or not there."""
    path = folder / WEIGHTS
    if path.is_file():
        return LazyTensors(path)
    again = (
        "load it with transformers and save it again: "
        "model.save_pretrained(DIR, max_shard_size='100GB')"
    )
    if (folder / f"{WEIGHTS}.index.json").exists():
        raise ValueError(f"{folder}: its weights are in several files; {again}")
    others = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".h5"))
    if others:
        raise ValueError(f"{folder}: {others[0]} is not read (pickles can run code); {again}")
    raise ValueError(f"{folder} has no {WEIGHTS}")


def config_to_options(config: Dict[str, Any], fields: Sequence[Field] = FIELDS) -> Dict[str, Any]:
    """Options of ElectraConfig, by a discriminator's or BERT's config.json."""
    return {ours: config[name] for name, ours, _ in fields}


def encoder_size(config: Dict[str, Any]) -> EncoderSize:
    """Sizes of the encoder that a config.json describes."""
    return EncoderSize(*(config[name] for name, _, _ in FIELDS[:4]))


def make_config(
    cfg: ElectraConfig, size: EncoderSize, embedding_size: int, words: List[str], pad: int
) -> Dict[str, Any]:
    """A config.json for an encoder of this size; the class is left to the caller."""
    options = {name: getattr(cfg, ours) for name, ours, _ in FIELDS}
    options.update(zip((name for name, _, _ in FIELDS[:4]), size, strict=True))
    fixed = {name: value for name, value in FIXED.items() if name != "position_embedding_type"}
    return {
        "model_type": "electra",
        "vocab_size": len(words),
        **options,
        "embedding_size": embedding_size,
        **fixed,
        "pad_token_id": pad,
    }
