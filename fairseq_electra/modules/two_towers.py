"""`--two-tower-generator`: every token predicted from all the others in one pass, without `<mask>`.

Two encoders read the clean text, one from the left and one from the right. A token is predicted
from what the first says of the token before it and the second of the token after it, so that it
cannot see itself. After TwoTowerClozeTransformer in the authors' run_pretraining.py, but for the
ends: there the first token also gets what the first encoder says of the last one, which has seen
the whole text, and the other way round. Theirs are always special tokens, ours need not be.
"""

import math
from typing import List, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairseq_electra.modules.encoder import Embeddings, Encoder, gather_positions
from fairseq_electra.modules.heads import GeneratorHead
from fairseq_electra.modules.layout import Layout


class LeftToRight(Encoder):
    """An encoder whose tokens attend to themselves and to those before them."""

    looks = -1

    def lay_out(
        self, embedded: Tensor, padding_mask: Optional[Tensor], places: Optional[Tensor]
    ) -> Layout:
        layout = super().lay_out(embedded, padding_mask, places)
        length = embedded.size(1)
        ones = torch.ones(length, length, dtype=torch.bool, device=embedded.device)
        seen = ones.tril() if self.looks < 0 else ones.triu()  # (T, T), of each token a row
        if layout.attended is not None:  # padding attends to itself, so that no row is empty
            seen = (seen & layout.attended) | (ones.tril() & ones.triu())  # (B, 1, T, T)
        return layout._replace(attended=seen)


class RightToLeft(LeftToRight):
    """The same of those after them."""

    looks = 1


class TwoTowerGenerator(nn.Module):
    """q(x_t | all other tokens) of Electric; called as the generator that reads masks is.

    Args:
        left_to_right, right_to_left: of one size.
        head: for features of both, one after the other.
        embeddings: of its own; None for the shared ones.
    """

    def __init__(
        self,
        left_to_right: LeftToRight,
        right_to_left: RightToLeft,
        head: GeneratorHead,
        embeddings: Optional[Embeddings] = None,
    ):
        super().__init__()
        self.embeddings = embeddings
        self.left_to_right = left_to_right
        self.right_to_left = right_to_left
        self.head = head

    @property
    def encoders(self) -> List[Encoder]:
        return [self.left_to_right, self.right_to_left]

    def forward(
        self,
        tokens: Tensor,
        token_types: Optional[Tensor],
        padding_mask: Optional[Tensor],
        picked: Optional[Tensor],
        shared: Embeddings,
        places: Optional[Tensor] = None,
    ) -> Tensor:
        """Clean tokens (B, T) -> vocabulary logits at the picked positions (B, K, V).

        `picked` None: at all positions (B, T, V). What stands at a position does not change its
        logits.
        """
        embeddings = shared if self.embeddings is None else self.embeddings
        embedded = embeddings(tokens, token_types)
        before, after = (
            tower(embedded, padding_mask, places=places) for tower in self.encoders
        )  # (B, T, C) each
        if padding_mask is not None:
            after = after.masked_fill(padding_mask.unsqueeze(2), 0.0)
        # what is beyond the ends is zeros
        features = torch.cat(
            [F.pad(before[:, :-1], (0, 0, 1, 0)), F.pad(after[:, 1:], (0, 0, 0, 1))], dim=2
        )
        if picked is not None:
            features = gather_positions(features, picked)
        return self.head(features, embeddings.embed_tokens.weight)


def gather_log_q(gen_logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-probabilities (B, T) that logits (B, T, V) give the tokens (B, T), without gradient.

    In float32 whatever the logits' type.
    """
    logits = gen_logits.detach().float()
    return logits.gather(2, tokens.unsqueeze(2)).squeeze(2) - logits.logsumexp(2)


def noise_logits(energies: Tensor, log_q: Tensor, mask_prob: float) -> Tensor:
    """Log-odds that tokens are noise and not data, from their energies.

    A share p of the tokens is noise, with probabilities q; the others have exp(-E). So the odds are
    p q / ((1 - p) exp(-E)).

    Args:
        energies: (...), E.
        log_q: (...) of the noise, which gets no gradient.
        mask_prob: p, a number in (0, 1).
    """
    return energies + log_q.detach() + math.log(mask_prob / (1 - mask_prob))
