"""Whether a checkpoint's tensors fit a model, and what is dropped or added when they are loaded.

Used by the plugin's models on every load: to resume, to validate, to fine-tune, to generate.
"""

import hashlib
import logging
from typing import Dict, Sequence

import torch
from torch import Tensor

from fairseq_electra.modules.shared_embeddings import (
    DisentangledEmbeddings,
    add_deltas,
    take_deltas,
)

logger = logging.getLogger(__name__)

WORDS = "embeddings.embed_tokens.weight"
DELTA = "embeddings.embed_tokens.delta"  # of --embedding-sharing gdes
GENERATOR_WORDS = "generator.embeddings.embed_tokens.weight"
PRETRAINING_PARTS = ("generator.", "discriminator_head.", "mlm_head.")
GENERATOR = "generator."
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
    keep_given_generator(model, state_dict)
    fit_embeddings(model, state_dict)
    check_dictionary(model, state_dict)
    check_labels(model, state_dict)
    own = tuple({name.split(".")[0] + "." for name in model.state_dict()})
    others = [part for part in PRETRAINING_PARTS if part not in own]
    drop_tensors(state_dict, others, "pre-training only")
    fill_mlm_head(model, state_dict)
    keep_own_heads(model, state_dict)


def fit_embeddings(model, state_dict: Dict[str, Tensor]) -> None:
    """Give the tables the form of the model's --embedding-sharing, where they can have it.

    What fine-tuning takes of a checkpoint is whole tables. Pre-training with `gdes` can begin with
    any other sharing's, and with `none` from those of `gdes`.

    Raises:
        ValueError: if the generator's tables are not shared in one of both alone.
    """
    has_deltas = DELTA in state_dict
    if isinstance(model.embeddings, DisentangledEmbeddings):
        if not has_deltas and WORDS in state_dict:
            take_deltas(state_dict)
            logger.info("--embedding-sharing gdes: both networks' tables made one and a difference")
        return
    add_deltas(state_dict)
    generator = getattr(model, "generator", None)
    if generator is None or not any(name.startswith("generator.") for name in state_dict):
        return
    if (generator.embeddings is None) != (GENERATOR_WORDS not in state_dict):
        saved = "all" if generator.embeddings is not None else "gdes" if has_deltas else "none"
        raise ValueError(
            f"the checkpoint was trained with --embedding-sharing {saved}: give "
            + ("that" if saved == "gdes" else f"{saved} or gdes")
        )


def check_dictionary(model, state_dict: Dict[str, Tensor]) -> None:
    """Compare the word table's rows, then the fingerprint, with the model's."""
    table = state_dict.get(WORDS, state_dict.get(DELTA))
    rows = model.embeddings.embed_tokens.num_embeddings
    if table is not None and len(table) != rows:
        hint = " (it has no row for <mask>)" if len(table) == rows - 1 else ""
        _fail_dictionary(f"it has {len(table)} entries{hint}, the data's dictionary has {rows}")
    saved = state_dict.setdefault("dictionary_fingerprint", model.dictionary_fingerprint)
    if saved.item() != model.dictionary_fingerprint.item():
        _fail_dictionary(f"both have {rows} entries, but not the same ones in the same order")


def fit_encoder_decoder(model, state_dict: Dict[str, Tensor]) -> None:
    """As `adapt_state_dict`, for an ElectraTransformer and a checkpoint of ELECTRA or of its own.

    Of an ELECTRA the encoder is taken; the decoder stays as it was built, but for the word table.

    Raises:
        ValueError: if the checkpoint was trained with another dictionary.
    """
    add_deltas(state_dict)
    if WORDS not in state_dict:
        inner = {name.removeprefix("encoder."): tensor for name, tensor in state_dict.items()}
        check_dictionary(model.encoder, inner)
        return
    fit_mask_row(model.encoder, state_dict)
    check_dictionary(model.encoder, state_dict)
    drop_tensors(state_dict, (*PRETRAINING_PARTS, HEADS), "not of the encoder")
    taken = {name: state_dict.pop(name) for name in list(state_dict)}
    state_dict.update({f"encoder.{name}": tensor for name, tensor in taken.items()})
    for name, tensor in model.decoder.state_dict().items():
        is_shared = name in ("embed_tokens.weight", "output_projection.weight")
        state_dict[f"decoder.{name}"] = taken[WORDS] if is_shared else tensor


def fit_mask_row(encoder, state_dict: Dict[str, Tensor]) -> None:
    """Drop or add the word table's last row, <mask>'s, where only one dictionary has that symbol.

    The tasks that mask add it to dict.txt as the last symbol, the others do not.
    """
    names, saved = encoder.dictionary.symbols, state_dict.get("dictionary_fingerprint")
    table, own = state_dict[WORDS], encoder.embeddings.embed_tokens.weight
    if saved is None:
        return
    if saved.item() == hash_names([*names, "<mask>"]).item():
        state_dict[WORDS] = table[: len(names)]
    elif names[-1] == "<mask>" and saved.item() == hash_names(names[:-1]).item():
        state_dict[WORDS] = torch.cat([table, own.detach()[-1:].to(table)])
    else:
        return
    state_dict["dictionary_fingerprint"] = encoder.dictionary_fingerprint


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
    """Keep the model's own head of --mlm-updates or --clm-weight where a pre-training had none."""
    if not any(name.startswith(MLM_HEAD) for name in state_dict):
        for name, tensor in model.state_dict().items():
            if name.startswith(MLM_HEAD):
                state_dict[name] = tensor


def keep_given_generator(model, state_dict: Dict[str, Tensor]) -> None:
    """Where a run begins with --generator-from too, that generator stays."""
    if getattr(model, "keeps_generator", 0) > 0:
        model.keeps_generator -= 1
        add_deltas(state_dict)  # from the one that is dropped
        drop_tensors(state_dict, [GENERATOR], "--generator-from is given")
        own = model.generator.state_dict().items()
        state_dict.update({GENERATOR + name: tensor for name, tensor in own})


def keep_own_heads(model, state_dict: Dict[str, Tensor]) -> None:
    """Drop classification heads that do not fit the model's; fill in those the checkpoint lacks."""
    own = {HEADS + name: tensor for name, tensor in model.classification_heads.state_dict().items()}
    for name in [name for name in state_dict if name.startswith(HEADS)]:
        if name not in own or own[name].shape != state_dict[name].shape:
            logger.warning("not loaded (the model has no such head of that size): %s", name)
            del state_dict[name]
    for name, tensor in own.items():
        state_dict.setdefault(name, tensor)
