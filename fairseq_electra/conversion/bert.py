"""A BERT of Hugging Face's to an ELECTRA discriminator: `import-bert`.

The encoder, all embeddings and the tokenizer are taken: BERT is ELECTRA's encoder with embeddings
as wide as its hidden size. The generator and the discriminator's head are new.
"""

import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Set

from fairseq_electra.conversion.checkpoint_file import check_sizes
from fairseq_electra.conversion.hf_folder import (
    BERT,
    BERT_FIELDS,
    WEIGHTS,
    WORD_TABLE,
    config_to_options,
    open_weights,
    read_config,
    read_json,
)
from fairseq_electra.conversion.key_map import (
    DISCRIMINATOR,
    HF,
    Entry,
    check_names,
    check_shapes,
    list_entries,
    to_ours,
)
from fairseq_electra.conversion.networks import complete, list_shapes
from fairseq_electra.conversion.tokenizer_files import Foreign, read_foreign
from fairseq_electra.conversion.vocabulary import (
    foreign_rows,
    make_dictionary,
    rename_specials,
    reorder_words,
)
from fairseq_electra.data.tokenizer import RESERVED
from fairseq_electra.models.electra_config import ElectraConfig, usual_generator_size

ELECTRA_PREFIX = "electra."  # of key_map's names
PREFIXES = ("bert.", "")  # with a head, and BertModel alone
# LayerNorm's parameters in files of before 2019, which transformers renames as it loads them.
OLD_NAMES = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
MLM_HEAD = "cls.predictions."
NOT_TAKEN = re.compile(
    r"(bert\.)?(pooler\.|embeddings\.(position_ids|token_type_ids)$)|(cls|classifier|qa_outputs)\."
)
MODULES = "modules.json"  # of sentence-transformers


def import_bert(folder: Path, generator_size: Optional[float]) -> tuple:
    """A whole model and its tokenizer, or None where the vocabulary is of plain words.

    Args:
        folder: with config.json, model.safetensors, and tokenizer.json or vocab.txt.
        generator_size: of the new generator, as a share of BERT's hidden size.

    Raises:
        ValueError: if it is no BERT, or one that ELECTRA's networks cannot express.
    """
    modules = list_modules(folder)
    config = read_config(folder, BERT, BERT_FIELDS)
    tensors, foreign = open_weights(folder), read_foreign(folder)
    check_vocabulary(folder, config, foreign)
    cfg = ElectraConfig(**config_to_options(config, BERT_FIELDS))
    cfg.embedding_size = cfg.encoder_embed_dim
    cfg.generator_size = generator_size or usual_generator_size(cfg.encoder_embed_dim)
    check_sizes(cfg, folder)
    dictionary = make_dictionary(
        [word for word in rename_specials(foreign.words) if word not in RESERVED]
    )
    shapes = list_shapes(cfg, dictionary)
    entries = list_bert_entries(cfg, shapes, set(tensors), folder / WEIGHTS)
    skipped = sorted(filter(NOT_TAKEN.match, tensors))
    check_names(entries, set(tensors) - set(skipped), HF, str(folder))
    check_shapes(entries, tensors, shapes, HF, str(folder))
    ours = to_ours(entries, tensors, HF)
    reorder_words(ours, foreign_rows(foreign.words, dictionary))
    notes = describe_skipped(folder, skipped, modules)
    return complete(cfg, dictionary, ours, notes), foreign.tokenizer


def list_modules(folder: Path) -> List[str]:
    """What sentence-transformers has after BERT in a folder of its own, such as "1_Pooling".

    Raises:
        ValueError: if BERT is in a folder inside, which is named.
    """
    path = folder / MODULES
    if not path.is_file():
        return []
    try:
        modules = [module["path"] for module in read_json(path, list)]
        inside = [name for name in modules if name and (folder / name / WEIGHTS).is_file()]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error!r}") from None
    if "" not in modules and inside:
        raise ValueError(
            f"{folder} is of sentence-transformers ({MODULES}), with its network in a folder "
            f"inside: name {folder / inside[0]}"
        )
    return [name for name in modules if name]


def check_vocabulary(folder: Path, config: Dict[str, Any], foreign: Foreign) -> None:
    """ValueError, with the way out, if the word table is longer or shorter than the vocabulary."""
    words, rows = len(foreign.words), config.get("vocab_size", len(foreign.words))
    if words != rows:
        raise ValueError(
            f"{folder}: its vocabulary has {words} entries, its config.json says vocab_size {rows};"
            " give both the same with transformers: model.resize_token_embeddings(len(tokenizer)), "
            "model.save_pretrained(DIR), tokenizer.save_pretrained(DIR)"
        )


def list_bert_entries(
    cfg: ElectraConfig, shapes: Dict[str, tuple], names: Set[str], path: Path
) -> List[Entry]:
    """key_map's tensors of a discriminator without its head, by the names that a file has them by.

    Raises:
        ValueError: if the file has no word table where BERT has it.
    """
    prefix = find_prefix(names, path)
    entries = list_entries(DISCRIMINATOR, cfg.encoder_layers, with_head=False)
    return [
        entry._replace(hf=tuple(rename(name, prefix, names) for name in entry.hf))
        for entry in entries
        if entry.ours in shapes
    ]


def find_prefix(names: Set[str], path: Path) -> str:
    """What BERT's names begin with in a file; ValueError, naming file and key, if it is no BERT."""
    wanted = {prefix + WORD_TABLE.removeprefix(ELECTRA_PREFIX): prefix for prefix in PREFIXES}
    for name, prefix in wanted.items():
        if name in names:
            return prefix
    table = WORD_TABLE.rpartition(".embeddings.")[2]
    found = sorted(name for name in names if name.endswith(table)) or sorted(names)
    has = f"it begins with {found[0]}" if found else "it is empty"
    if found and found[0].endswith(table):
        has = f"its word table is {found[0]}"
    raise ValueError(f"{path} has no {' and no '.join(wanted)}: {has}, so it is not BERT's layout")


def rename(name: str, prefix: str, names: Set[str]) -> str:
    """The name in a file of a tensor that key_map names, LayerNorm's perhaps by its old name."""
    name = prefix + name.removeprefix(ELECTRA_PREFIX)
    for new, old in OLD_NAMES:
        older = name.replace(new, old)
        if name not in names and older in names:
            return older
    return name


def describe_skipped(folder: Path, skipped: List[str], modules: List[str]) -> List[str]:
    """What is not taken, a line each, and why an MLM head is not."""
    notes = [f"not taken from {folder}: {key}" for key in skipped]
    if any(key.startswith(MLM_HEAD) for key in skipped):
        notes.append(
            f"{MLM_HEAD.removesuffix('.')}, the MLM head, reads BERT's features: the new generator "
            "has an encoder and a head of its own"
        )
    return notes + [f"not taken from {folder}: {name} ({MODULES})" for name in modules]
