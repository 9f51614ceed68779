"""A checkpoint of fairseq's sentence_prediction (ELECTRA or RoBERTa) -> what it says of a split.

In: the checkpoint, a folder made by prepare_task.sh. Out: logits, classes or numbers, in the file's
order.
"""

from pathlib import Path
from typing import List, NamedTuple

import torch
from fairseq import utils
from fairseq.models import BaseFairseqModel
from fairseq.tasks import FairseqTask

from fairseq_electra.hub.finetuned_model import load_finetuned

BATCH = 64  # texts


class Predictor(NamedTuple):
    """A fine-tuned model and what it was fine-tuned on."""

    model: BaseFairseqModel
    task: FairseqTask


def load_predictor(checkpoint: Path, task_bin: Path) -> Predictor:
    """Load onto the GPU if there is one.

    Raises:
        ValueError: if there is no checkpoint, or it is not one of sentence_prediction.
    """
    model, task = load_finetuned(checkpoint, "sentence_prediction", task_bin)
    return Predictor(model.cuda() if torch.cuda.is_available() else model, task)


@torch.inference_mode()
def compute_logits(predictor: Predictor, split: str) -> torch.Tensor:
    """Head's outputs (texts, N) in the file's order; texts of like length share a batch."""
    model, task = predictor
    task.load_dataset(split)
    dataset = task.dataset(split)
    order = sorted(range(len(dataset)), key=dataset.size)
    logits = torch.empty(len(dataset), task.cfg.num_classes)
    for start in range(0, len(order), BATCH):
        batch = dataset.collater([dataset[i] for i in order[start : start + BATCH]])
        net_input = batch["net_input"]
        if torch.cuda.is_available():
            net_input = utils.move_to_cuda(net_input)
        head = task.cfg.classification_head_name
        output, _ = model(**net_input, features_only=True, classification_head_name=head)
        logits[batch["id"]] = output.float().cpu()
    return logits


def predict(predictor: Predictor, split: str) -> List[str]:
    """A class, or a number as the head gives it, for each text."""
    logits = compute_logits(predictor, split)
    if predictor.task.cfg.regression_target:
        return [f"{value:.6f}" for value in logits[:, 0].tolist()]
    dictionary = predictor.task.label_dictionary
    return [dictionary[dictionary.nspecial + number] for number in logits.argmax(1).tolist()]
