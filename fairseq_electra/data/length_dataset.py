"""What the plugin's datasets have in common: batches of items of about one length."""

from typing import List

import numpy as np
from fairseq.data import FairseqDataset


class LengthDataset(FairseqDataset):
    """A dataset that knows its items' lengths, (N,) in tokens."""

    def __init__(self, sizes):
        super().__init__()
        self._sizes = np.asarray(sizes)

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def sizes(self) -> np.ndarray:
        return self._sizes

    def num_tokens(self, index: int) -> int:
        return self._sizes[index]

    def size(self, index: int) -> int:
        return self._sizes[index]

    def num_tokens_vec(self, indices: np.ndarray) -> np.ndarray:
        return self._sizes[indices]

    @property
    def can_reuse_epoch_itr_across_epochs(self) -> bool:
        """No: fairseq would keep the batches of the epoch that a run starts in, and shuffles by
        the epoch's number, so that a resumed run would go on with others."""
        return False

    def ordered_indices(self) -> np.ndarray:
        """By length, shuffled among equals (fairseq seeds numpy for this call)."""
        return np.lexsort([np.random.permutation(len(self)), self._sizes])

    def batch_by_size(self, indices, **limits) -> List[np.ndarray]:
        """Batch as fairseq does, and keep the last sentences.

        fairseq drops its last batch where --required-batch-size-multiple (8) does not divide it:
        held-out data would go uncounted, and a small data set would be empty.

        Raises:
            ValueError: if no sentence is left, or one is longer than a batch may be.
        """
        if len(self) and not len(indices):
            raise ValueError(self._describe_nothing())
        most = limits.get("max_tokens")
        longest = self._sizes[indices].max(initial=0)
        if most is not None and longest > most:  # in a validation, from which none is left out
            raise ValueError(
                f"a sentence of {longest} tokens is longer than --max-tokens or --max-tokens-valid "
                f"{most}: raise it, or lower --tokens-per-sample"
            )
        batches = list(super().batch_by_size(indices, **limits))
        rest = indices[sum(len(batch) for batch in batches) :]
        return [*batches, rest] if len(rest) else batches

    def _describe_nothing(self) -> str:
        return (
            f"none of the {len(self)} sentences fits: the shortest has {self._sizes.min()} tokens, "
            "more than --max-tokens (of a batch) or --max-positions (of the model) allows: raise "
            "them, or lower --tokens-per-sample"
        )
