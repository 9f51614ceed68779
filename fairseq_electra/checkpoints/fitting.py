"""Whether a checkpoint's tensors fit a model, and what is dropped or added when they are loaded.

Used by ElectraModel on every load: to resume, to validate, to fine-tune.
"""

import hashlib
import logging
from typing import Dict, Sequence

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

PRETRAINING_PARTS = ("generator.", "discriminator_head.", "mlm_head.")
MLM_HEAD = "mlm_head."
HEADS = "classification_heads."


def fingerprint(dictionary) -> Tensor:
    """A 64-bit number (0-dim int64) that differs for dictionaries of other symbols or order."""
    return hash_names(dictionary.symbols)


def hash_names(names: Sequence[str]) -> Tensor:
    """A 64-bit number (0-dim int64) that differs for other names or another order."""
    digest = hashlib.sha256("\n".join(names).encode()).digest()
    return torch.tensor(int.from_bytes(digest[:8], "little", signed=True))


def adapt_state_dict(model, state_dict: Dict[str, Tensor]) -> None:
    """Make `state_dict` loadable into `model` in place, or say why it cannot be.

    The generator and the discriminator's head are dropped where the model has none; classification
    heads the model lacks, or has in another size, are dropped; its own new heads are kept as built.

    Raises:
        ValueError: if the checkpoint was trained with another dictionary, or its head with other
            labels.
    """
    check_dictionary(model, state_dict)
    check_labels(model, state_dict)
    own = tuple({name.split(".")[0] + "." for name in model.state_dict()})
    others = [part for part in PRETRAINING_PARTS if part not in own]
    drop_tensors(state_dict, others, "pre-training only")
    fill_mlm_head(model, state_dict)
    keep_own_heads(model, state_dict)


def check_dictionary(model, state_dict: Dict[str, Tensor]) -> None:
    """Compare the word table's rows, then the fingerprint, with the model's."""
    table = state_dict.get("embeddings.embed_tokens.weight")
    rows = model.embeddings.embed_tokens.num_embeddings
    if table is not None and len(table) != rows:
        hint = " (it has no row for <mask>)" if len(table) == rows - 1 else ""
        _fail_dictionary(f"it has {len(table)} entries{hint}, the data's dictionary has {rows}")
    saved = state_dict.setdefault("dictionary_fingerprint", model.dictionary_fingerprint)
    if saved.item() != model.dictionary_fingerprint.item():
        _fail_dictionary(f"both have {rows} entries, but not the same ones in the same order")


def _fail_dictionary(reason: str) -> None:
    raise ValueError(
        f"the checkpoint was trained with another dictionary: {reason}. Use the data directory it "
        "was trained on, or prepare the data with its dict.txt and tokenizer "
        "(fairseq-electra prepare-data --tokenizer DIR)"
    )


def check_labels(model, state_dict: Dict[str, Tensor]) -> None:
    """Compare the fingerprints of the labels of the heads that have one."""
    for name, own in model.classification_heads.state_dict().items():
        saved = state_dict.get(HEADS + name, own)
        if name.endswith(".label_fingerprint") and saved.item() != own.item():
            raise ValueError(
                f"the checkpoint's {name.split('.')[0]} was trained with other labels than those "
                "in label/dict.txt: use the data directory it was trained on, or start from a "
                "pre-trained checkpoint"
            )


def drop_tensors(state_dict: Dict[str, Tensor], prefixes, reason: str) -> None:
    """Delete the tensors whose names start with one of `prefixes`, and log how many."""
    names = [name for name in state_dict if name.startswith(tuple(prefixes))]
    for name in names:
        del state_dict[name]
    if names:
        logger.info("not loaded (%s): %d tensors of %s", reason, len(names), ", ".join(prefixes))


def fill_mlm_head(model, state_dict: Dict[str, Tensor]) -> None:
    """Keep the model's own head of --mlm-updates where a pre-training had none."""
    if not any(name.startswith(MLM_HEAD) for name in state_dict):
        for name, tensor in model.state_dict().items():
            if name.startswith(MLM_HEAD):
                state_dict[name] = tensor


def keep_own_heads(model, state_dict: Dict[str, Tensor]) -> None:
    """Drop classification heads that do not fit the model's; fill in those the checkpoint lacks."""
    own = {HEADS + name: tensor for name, tensor in model.classification_heads.state_dict().items()}
    for name in [name for name in state_dict if name.startswith(HEADS)]:
        if name not in own or own[name].shape != state_dict[name].shape:
            logger.warning("not loaded (the model has no such head of that size): %s", name)
            del state_dict[name]
    for name, tensor in own.items():
        state_dict.setdefault(name, tensor)
