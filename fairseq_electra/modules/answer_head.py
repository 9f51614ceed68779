"""Heads that find an answer: features of question and passage in, start, end and answerability out.

With the true starts they give logits to train on, without them the best pairs of start and end.
Logits are float32, and -inf where no answer may be.
"""

from typing import NamedTuple, Optional, Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_electra.modules.encoder import gather_positions, init_glorot

BEAM = 20  # starts, and ends for each (google-research/electra, configure_finetuning)
JOINT_HIDDEN = 512  # units of the joint head's hidden layers (authors' code, finetune/qa)


class AnswerLogits(NamedTuple):
    """For B windows of T tokens."""

    start: Tensor  # (B, T)
    end: Tensor  # (B, T) given the true start
    impossible: Optional[Tensor]  # (B,) positive where there is no answer; None if not judged


class AnswerBeam(NamedTuple):
    """The K best starts of each of B windows, and for each of them the K best ends."""

    starts: Tensor  # (B, K) positions
    start_scores: Tensor  # (B, K)
    ends: Tensor  # (B, K, K) positions
    end_scores: Tensor  # (B, K, K)
    null_scores: Tensor  # (B,) of no answer, for `score_impossible`


class JointAnswerHead(nn.Module):
    """The authors' head: the end depends on the start, and a classifier judges answerability.

        start       = Linear(x_t)
        end         = Linear(gelu(Linear([x_start; x_t])))
        impossible  = Linear(gelu(Linear([x_<s>; sum of softmax(start)_t x_t])))

    Args:
        beam: starts to follow, and ends for each.
    """

    def __init__(self, hidden: int, beam: int = BEAM):
        super().__init__()
        self.beam = beam
        self.start = nn.Linear(hidden, 1)
        self.end_dense = nn.Linear(2 * hidden, JOINT_HIDDEN)
        self.end = nn.Linear(JOINT_HIDDEN, 1)
        self.impossible_dense = nn.Linear(2 * hidden, JOINT_HIDDEN)
        self.impossible = nn.Linear(JOINT_HIDDEN, 1)
        for linear in self.children():
            init_glorot(linear)

    def forward(
        self, features: Tensor, can_answer: Tensor, start_positions: Optional[Tensor] = None
    ) -> Union[AnswerLogits, AnswerBeam]:
        """Features (B, T, C) -> logits given the true starts (B,), or a beam without them.

        Args:
            can_answer: (B, T) bool, where an answer may start and end.
        """
        start = mask_logits(self.start(features).squeeze(-1), can_answer)
        impossible = self.judge(features, start)
        if start_positions is not None:
            end = self.find_ends(features, can_answer, start_positions.unsqueeze(1)).squeeze(1)
            return AnswerLogits(start, end, impossible)
        beam = min(self.beam, start.size(1))
        start_scores, starts = start.log_softmax(-1).topk(beam)
        end = self.find_ends(features, can_answer, starts)
        end_scores, ends = end.log_softmax(-1).topk(beam)
        return AnswerBeam(starts, start_scores, ends, end_scores, impossible)

    def find_ends(self, features: Tensor, can_answer: Tensor, starts: Tensor) -> Tensor:
        """Logits of the end (B, K, T) for each of K starts (B, K)."""
        # One product for the starts and one for the tokens: the concatenation's K T rows of 2 C
        # values need not be made.
        of_start, of_token = self.end_dense.weight.chunk(2, dim=1)
        begun = F.linear(gather_positions(features, starts), of_start, self.end_dense.bias)
        tokens = F.linear(features, of_token)  # (B, T, 512)
        ends = [self.end(F.gelu(tokens + each.unsqueeze(1))) for each in begun.unbind(1)]
        return mask_logits(torch.cat(ends, -1).transpose(1, 2), can_answer.unsqueeze(1))

    def judge(self, features: Tensor, start: Tensor) -> Tensor:
        """Logits (B,) that there is no answer."""
        weights = start.softmax(-1).to(features.dtype).unsqueeze(1)  # (B, 1, T)
        expected = torch.bmm(weights, features).squeeze(1)  # (B, C)
        x = F.gelu(self.impossible_dense(torch.cat([features[:, 0], expected], -1)))
        return self.impossible(x).squeeze(-1).float()

    @staticmethod
    def score_impossible(null_score: float, best_score: float) -> float:
        """The classifier's word; the best answer's score does not matter."""
        return null_score


class LinearAnswerHead(nn.Module):
    """BERT's head: start and end on their own, one Linear; `<s>` as both is no answer.

    The same function as transformers' ElectraForQuestionAnswering, where an answer may be.
    """

    def __init__(self, hidden: int, beam: int = BEAM):
        super().__init__()
        self.beam = beam
        self.out_proj = nn.Linear(hidden, 2)
        init_glorot(self.out_proj)

    def forward(
        self, features: Tensor, can_answer: Tensor, start_positions: Optional[Tensor] = None
    ) -> Union[AnswerLogits, AnswerBeam]:
        """As JointAnswerHead's; scores are logits, the null score is that of `<s>` to `<s>`."""
        start, end = (mask_logits(x, can_answer) for x in self.out_proj(features).unbind(-1))
        if start_positions is not None:
            return AnswerLogits(start, end, None)
        beam = min(self.beam, start.size(1))
        start_scores, starts = start.topk(beam)
        end_scores, ends = (x.unsqueeze(1).expand(-1, beam, -1) for x in end.topk(beam))
        return AnswerBeam(starts, start_scores, ends, end_scores, start[:, 0] + end[:, 0])

    @staticmethod
    def score_impossible(null_score: float, best_score: float) -> float:
        """By how much no answer beats the best answer."""
        return null_score - best_score


ANSWER_HEADS = {"joint": JointAnswerHead, "linear": LinearAnswerHead}


def mask_logits(logits: Tensor, can_answer: Tensor) -> Tensor:
    """Logits in float32, -inf where no answer may be."""
    return logits.float().masked_fill(~can_answer, float("-inf"))
