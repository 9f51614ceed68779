"""Entities that were found, as numbers that batches and workers can sum; seqeval says what one is.

The sums give seqeval's micro precision, recall and F1 of all sentences together.
"""

import re
from typing import Dict, List, Sequence

ENTITY_KEYS = ("right_entities", "predicted_entities", "gold_entities")
ENTITY_TAG = re.compile(r"O|[BIES]-.+")


def are_entity_tags(labels: Sequence[str]) -> bool:
    """Whether tags mark entities as seqeval reads them: O, or B-, I-, E-, S- and a type."""
    return all(ENTITY_TAG.fullmatch(label) for label in labels)


def import_seqeval():
    """The module with seqeval's functions; ValueError if it is not installed."""
    try:
        from seqeval.metrics import sequence_labeling
    except ImportError:
        raise ValueError("seqeval is not installed: pip install '.[finetune]'") from None
    return sequence_labeling


def count_entities(gold: List[List[str]], predicted: List[List[str]]) -> Dict[str, int]:
    """Counts by the names of ENTITY_KEYS, of sentences as lists of tags."""
    get_entities = import_seqeval().get_entities
    pairs = [
        (set(get_entities(ours)), set(get_entities(theirs)))
        for ours, theirs in zip(predicted, gold, strict=True)
    ]
    return {
        "right_entities": sum(len(ours & theirs) for ours, theirs in pairs),
        "predicted_entities": sum(len(ours) for ours, _ in pairs),
        "gold_entities": sum(len(theirs) for _, theirs in pairs),
    }


def score_entities(right: int, predicted: int, gold: int) -> Dict[str, float]:
    """Precision, recall and F1 from counts; 0 where nothing can be told, as seqeval says."""
    return {
        "precision": right / predicted if predicted else 0.0,
        "recall": right / gold if gold else 0.0,
        "f1": 2 * right / (predicted + gold) if predicted + gold else 0.0,
    }
