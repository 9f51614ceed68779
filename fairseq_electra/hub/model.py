"""HubModel: a trained model with its tokenizer and dictionary, whichever network it is."""

from pathlib import Path
from typing import Optional, Sequence

import torch
from torch import Tensor, nn

from fairseq_electra.data.tokenizer import Tokenizer
from fairseq_electra.hub.texts import Text, pad_tokens, read_text


class HubModel(nn.Module):
    """A model in evaluation mode and what it reads text by.

    `models` and `task` are what fairseq's own hub interfaces have.
    """

    is_electric = False  # whether --criterion electric trained it

    def __init__(self, model: nn.Module, task, tokenizer: Optional[Tokenizer], checkpoint: Path):
        super().__init__()
        self.models = nn.ModuleList([model.eval()])
        self.task = task
        self._tokenizer = tokenizer
        self.checkpoint = checkpoint
        self.dictionary = task.source_dictionary

    @property
    def model(self) -> nn.Module:
        return self.models[0]

    @property
    def tokenizer(self) -> Tokenizer:
        """ValueError if there is none where the model's data is."""
        if self._tokenizer is None:
            raise ValueError(
                f"no tokenizer is with the data of {self.checkpoint}, so that it reads tokens "
                "alone: name the folder of one, as hub.load(..., data=...)"
            )
        return self._tokenizer

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def max_tokens(self) -> int:
        """Most tokens that it reads at once, <s> and </s> counted: as many as it was trained on."""
        trained_on = getattr(self.task.cfg, "tokens_per_sample", None)
        most = self.model.max_positions()
        return min(most, trained_on) if trained_on else most

    def read(self, text: str) -> Text:
        """Pieces of a text and their places in it."""
        return read_text(text, self.tokenizer, self.dictionary)

    def pad(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """Tokens (B, T) of rows, padded on the right, on the model's device."""
        return pad_tokens(rows, self.dictionary.pad(), self.device)
