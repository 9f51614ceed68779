"""`--criterion electra_tagging`: tagged words in, mean cross-entropy and entity-level F1 out.

The loss is in nats, over the words of an update. Precision, recall and F1 are seqeval's, over all
held-out sentences; they are not there for tags that mark no entities, such as parts of speech.
"""

from typing import Dict, List, Tuple

import torch.nn.functional as F
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from torch import Tensor

from fairseq_electra.criterions.entity_counts import (
    ENTITY_KEYS,
    are_entity_tags,
    count_entities,
    import_seqeval,
    score_entities,
)
from fairseq_electra.data.tagging_dataset import IGNORED
from fairseq_electra.tasks.electra_tagging import HEAD


@register_criterion("electra_tagging", dataclass=FairseqDataclass)
class ElectraTaggingCriterion(FairseqCriterion):
    """Sum over words of the cross-entropy of their first piece; the sample size is their number."""

    def __init__(self, cfg: FairseqDataclass, task):
        super().__init__(task)
        self.labels = task.labels
        self.has_entities = are_entity_tags(task.labels)
        if self.has_entities:
            import_seqeval()  # fails now rather than after an epoch

    def forward(self, model, sample: Dict, reduce: bool = True) -> Tuple[Tensor, int, Dict]:
        """Loss, sample size and logging output of a batch, as fairseq's criterions return them."""
        logits, _ = model(**sample["net_input"], classification_head_name=HEAD)  # (B, T, N)
        target = sample["target"]  # (B, T)
        loss = F.cross_entropy(
            logits.float().flatten(0, 1),
            target.flatten(),
            ignore_index=IGNORED,
            reduction="sum",
        )
        predicted = logits.argmax(-1)
        logging_output = {
            "loss": loss.detach(),
            "right_words": predicted.eq(target).sum(),
            "nwords": sample["nwords"],
            "ntokens": sample["ntokens"],
            "nsentences": sample["nsentences"],
            "sample_size": sample["nwords"],
        }
        if self.has_entities and not model.training:  # it waits for the device
            gold, ours = (list_tags(rows, target, self.labels) for rows in (target, predicted))
            logging_output.update(count_entities(gold, ours))
        return loss, sample["nwords"], logging_output

    @classmethod
    def reduce_metrics(cls, logging_outputs: List[Dict]) -> None:
        """Log the metrics of all workers' batches: sums are divided only here."""
        loss, right, nwords = (
            sum(log.get(key, 0) for log in logging_outputs)
            for key in ("loss", "right_words", "nwords")
        )
        nwords = max(nwords, 1)
        metrics.log_scalar("loss", loss / nwords, nwords, round=4)
        metrics.log_scalar("accuracy", right / nwords, nwords, round=4)
        if any("gold_entities" in log for log in logging_outputs):
            for key in ENTITY_KEYS:
                total = sum(log.get(key, 0) for log in logging_outputs)
                metrics.log_scalar_sum(f"_{key}", total)
            for name in ("precision", "recall", "f1"):
                metrics.log_derived(name, read_score(name))

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True


def read_score(name: str):
    """A function that computes one score from the sums among fairseq's meters.

    Those of several workers are tensors.
    """
    return lambda meters: round(
        score_entities(*(float(meters[f"_{key}"].sum) for key in ENTITY_KEYS))[name], 4
    )


def list_tags(rows: Tensor, target: Tensor, labels: List[str]) -> List[List[str]]:
    """Numbers of tags (B, T) -> for each sentence the tags where the target has one."""
    is_word = target.ne(IGNORED).tolist()
    return [
        [labels[number] for number, keep in zip(row, kept) if keep]
        for row, kept in zip(rows.tolist(), is_word)
    ]
