"""Tags the words of a CoNLL file with a model fine-tuned by scripts/finetune_tagging.sh.

In: its checkpoint and a file with a word a line. Out: the same lines with the predicted tag as an
additional last column, which conlleval reads; and, if the file has tags, seqeval's report.
"""

import argparse
import logging
import signal
import sys
import warnings
from pathlib import Path
from typing import List, Optional

import torch
from fairseq import utils

from fairseq_electra.criterions.entity_counts import are_entity_tags, import_seqeval
from fairseq_electra.data.conll import Sentence, append_tags, parse_conll, read_lines
from fairseq_electra.data.tagging_dataset import IGNORED, TaggingDataset
from fairseq_electra.tasks.electra_tagging import HEAD
from finetuned_model import load_finetuned

BATCH = 32  # examples


def predict(model, dataset: TaggingDataset, labels: List[str]) -> List[List[str]]:
    """The most likely tag of each word of each sentence."""
    device = next(model.parameters()).device
    predicted = {}
    for batch in dataset.batch_by_size(dataset.ordered_indices(), max_sentences=BATCH):
        sample = dataset.collater([dataset[index] for index in batch])
        net_input = utils.move_to_cuda(sample["net_input"], device) if device.type == "cuda" else sample["net_input"]
        with torch.inference_mode():
            logits, _ = model(**net_input, classification_head_name=HEAD)
        best = logits.argmax(-1).cpu()
        for index, row, target in zip(batch, best, sample["target"], strict=True):
            predicted[index] = [labels[number] for number in row[target.ne(IGNORED)].tolist()]
    return dataset.join_words(predicted)
