"""`--criterion electra_answers`: windows with answers in, the authors' loss and accuracies out.

Losses are in nats, means over windows. Exact match and F1 are of whole questions, over all their
windows: fairseq-electra answer has them.
"""

from dataclasses import dataclass, field
from typing import Dict, List, Tuple

import torch.nn.functional as F
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from torch import Tensor

from fairseq_electra.answers.decode import HEAD

HITS = ("start_acc", "end_acc", "span_acc", "impossible_acc")


@dataclass
class ElectraAnswersCriterionConfig(FairseqDataclass):
    """Weights of the losses."""

    answerable_weight: float = field(
        default=0.5, metadata={"help": "weight of the loss of judging answerability (joint head)"}
    )


@register_criterion("electra_answers", dataclass=ElectraAnswersCriterionConfig)
class ElectraAnswersCriterion(FairseqCriterion):
    """(start + end) / 2 + answerable_weight x impossible, summed over windows.

    Cross-entropy for start and end, binary cross-entropy for the last, which is there with the
    joint head only. The sample size is the number of windows.
    """

    def __init__(self, cfg: ElectraAnswersCriterionConfig, task):
        super().__init__(task)
        self.answerable_weight = cfg.answerable_weight

    def forward(self, model, sample: Dict, reduce: bool = True) -> Tuple[Tensor, int, Dict]:
        """Loss, sample size and logging output of a batch, as fairseq's criterions return them."""
        logits, _ = model(**sample["net_input"], classification_head_name=HEAD)
        start, end = sample["net_input"]["start_positions"], sample["end_positions"]
        start_loss = F.cross_entropy(logits.start, start, reduction="sum")
        end_loss = F.cross_entropy(logits.end, end, reduction="sum")
        loss = (start_loss + end_loss) / 2
        nsentences = sample["nsentences"]
        logging_output = {
            "start_loss": start_loss.detach(),
            "end_loss": end_loss.detach(),
            "ntokens": sample["ntokens"],
            "nsentences": nsentences,
            "sample_size": nsentences,
            **count_hits(logits, start, end),
        }
        if logits.impossible is not None:
            is_impossible = sample["is_impossible"].float()  # --fp16 halves a batch's floats
            impossible_loss = F.binary_cross_entropy_with_logits(
                logits.impossible, is_impossible, reduction="sum"
            )
            loss = loss + self.answerable_weight * impossible_loss
            logging_output["impossible_loss"] = impossible_loss.detach()
            hits = logits.impossible.gt(0).eq(is_impossible.bool()).sum()
            logging_output["impossible_acc"] = hits
        logging_output["loss"] = loss.detach()
        return loss, nsentences, logging_output

    @classmethod
    def reduce_metrics(cls, logging_outputs: List[Dict]) -> None:
        """Log the means over the windows of all workers' batches: sums are divided only here."""
        windows = max(sum(log.get("nsentences", 0) for log in logging_outputs), 1)
        for key in ("loss", "start_loss", "end_loss", "impossible_loss", *HITS):
            if any(key in log for log in logging_outputs):
                total = sum(log.get(key, 0) for log in logging_outputs)
                metrics.log_scalar(key, total / windows, windows, round=4)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True


def count_hits(logits, start: Tensor, end: Tensor) -> Dict[str, Tensor]:
    """In how many windows the likeliest start, end (given the true start) and both are right."""
    start_hits, end_hits = logits.start.argmax(-1).eq(start), logits.end.argmax(-1).eq(end)
    return {
        "start_acc": start_hits.sum(),
        "end_acc": end_hits.sum(),
        "span_acc": (start_hits & end_hits).sum(),
    }
