"""The order of the words: fairseq's dictionary against a foreign vocabulary.

fairseq's is `<s> <pad> </s> <unk>`, the words of dict.txt, `<mask>`. A foreign list has the same
entries in its own order, the specials by their own names. Here: from one to the other.
"""

from pathlib import Path
from typing import Dict, List, Sequence

import torch
from fairseq.data import Dictionary
from torch import Tensor

from fairseq_electra.data.tokenizer import RESERVED

FAIRSEQ_SPECIALS = {name: name for name in RESERVED}
BERT_NAMES = {
    "[CLS]": "<s>",
    "[PAD]": "<pad>",
    "[SEP]": "</s>",
    "[UNK]": "<unk>",
    "[MASK]": "<mask>",
}
WORD_ROWS = ("embeddings.embed_tokens.weight", "generator.embeddings.embed_tokens.weight")
WORD_ROWS += ("generator.head.bias",)


def make_dictionary(words: Sequence[str]) -> Dictionary:
    """fairseq's dictionary of ordinary words, in their order, with `<mask>` last."""
    dictionary = Dictionary()
    for word in words:
        dictionary.add_symbol(word)
    dictionary.add_symbol("<mask>")
    return dictionary


def load_dictionary(path: Path) -> Dictionary:
    """A dict.txt with `<mask>` added; ValueError if it cannot be read."""
    try:
        dictionary = Dictionary.load(str(path))
    except OSError as error:  # compat/ names the file in all others
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    dictionary.add_symbol("<mask>")
    return dictionary


def rename_specials(words: Sequence[str]) -> List[str]:
    """A foreign list by fairseq's names, in its own order.

    Raises:
        ValueError: if an entry comes twice, or the specials are neither BERT's nor fairseq's.
    """
    names = BERT_NAMES if "[MASK]" in words else FAIRSEQ_SPECIALS
    missing = [name for name in names if name not in words]
    if missing:
        raise ValueError(f"the vocabulary has no {' '.join(missing)}")
    renamed = [names.get(word, word) for word in words]
    if len(set(renamed)) != len(renamed):
        double = next(word for word in renamed if renamed.count(word) > 1)
        raise ValueError(f"the vocabulary lists {double!r} more than once")
    return renamed


def foreign_rows(words: Sequence[str], dictionary: Dictionary) -> Tensor:
    """For each entry of the dictionary its number in the foreign list, (V,) int64.

    Raises:
        ValueError: if they do not have the same entries.
    """
    numbers = {word: number for number, word in enumerate(rename_specials(words))}
    different = sorted(set(numbers).symmetric_difference(dictionary.symbols))
    if different or len(numbers) != len(dictionary):
        raise ValueError(
            f"the vocabulary has {len(numbers)} entries, the dictionary {len(dictionary)}; not in "
            f"both: {' '.join(different[:5])}"
        )
    return torch.tensor([numbers[symbol] for symbol in dictionary.symbols])


def reorder_words(tensors: Dict[str, Tensor], rows: Tensor) -> None:
    """Put the rows of words in another order, in place: row i becomes what row rows[i] was."""
    for name in WORD_ROWS:
        if name in tensors:
            tensors[name] = tensors[name][rows]


def invert(rows: Tensor) -> Tensor:
    """The order that undoes `rows`."""
    return torch.argsort(rows)
