"""A model that only fills masks, for comparison: fairseq's RoBERTa, `--arch electra_mlm`."""

import torch
from torch import Tensor

from fairseq_electra.hub.model import HubModel


class MaskedLM(HubModel):
    """A masked language model of `--task masked_lm`; `score_pieces` asks it as a generator.

    Args:
        model, task, tokenizer, checkpoint: as HubModel's.
        precision: "float32", or "bf16": matrix products in bfloat16.
    """

    def __init__(self, *args, precision: str = "float32"):
        super().__init__(*args)
        self.precision = precision

    def require_generator(self, what: str) -> None:
        """It fills masks, which is all that `what` needs of a generator."""

    def require_discriminator(self, what: str) -> None:
        """ValueError: it cannot tell replaced tokens, which `what` needs."""
        raise ValueError(
            f"{what} needs a discriminator: {self.checkpoint} is of a "
            f"{type(self.model).__name__}, which fills masks alone"
        )

    @torch.inference_mode()
    def word_logits(self, tokens: Tensor, picked: Tensor) -> Tensor:
        """Logits (B, K, V) in float32 at the positions `picked` (B, K) of tokens (B, T)."""
        is_picked = torch.zeros_like(tokens, dtype=torch.bool).scatter_(1, picked, True)
        with torch.autocast(tokens.device.type, torch.bfloat16, self.precision == "bf16"):
            logits, _ = self.model(tokens, masked_tokens=is_picked)  # (N, V), position by position
        rows = is_picked.flatten().cumsum(0).view_as(tokens) - 1
        return logits[rows.gather(1, picked)].float()
