"""Pick the positions to replace: a dataset of token blocks in, ELECTRA's batches out.

Everything random about the corruption is drawn here, from (seed, epoch, index of the sentence), so
it does not depend on batches, workers, updates or resuming, and validation repeats exactly. The
device then needs no generator, and the training step no synchronisation.
"""

import threading
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from fairseq_electra.data.collating import pack_tensors, pad_rows
from fairseq_electra.data.length_dataset import LengthDataset
from fairseq_electra.modules.layout import find_places

MASKED_SHARE = 0.85  # of the picked tokens become <mask>, the rest stay (authors' code)


class Picks(NamedTuple):
    """Random decisions for one sentence, K picked slots."""

    positions: np.ndarray  # (K,) int64
    becomes_mask: np.ndarray  # (K,) bool
    uniform: np.ndarray  # (K,) float64 in (0, 1], decides the generator's sample
    candidates: int  # how many positions could have been picked


class KeyedGenerator(threading.local):
    """numpy's Philox, started anew for each sentence; making one for each would cost 10 us more.

    A thread has one of its own: fairseq's loading threads may be at work in the same dataset.
    """

    def __init__(self):
        self.bits = np.random.Philox(key=[0, 0])
        self.start = self.bits.state
        self.generator = np.random.Generator(self.bits)

    def restart(self, first: int, second: int) -> np.random.Generator:
        """What `Generator(Philox(key=[first, second]))` would be."""
        # The key is all of the state: cheaper than mixing it, and no two sentences share a stream.
        self.start["state"]["key"][:] = first, second
        self.bits.state = self.start
        return self.generator


GENERATOR = KeyedGenerator()


def max_picks(mask_prob: float, tokens_per_sample: int) -> int:
    """Most positions picked in a sentence, N of the authors' code (configure_pretraining)."""
    return int((mask_prob + 0.005) * tokens_per_sample)


def count_picks(num_tokens: int, mask_prob: float, limit: int) -> int:
    """Positions to pick in a sentence of `num_tokens`, specials counted.

    Rounded half to even in float32, as the authors' code does, which differs from float64 at 190,
    350 and 390 tokens for a `mask_prob` of 0.15.
    """
    rounded = round(float(np.float32(num_tokens) * np.float32(mask_prob)))
    return max(1, min(limit, rounded))


def pick(candidates: np.ndarray, number: int, rng: np.random.Generator, replace: bool) -> Picks:
    """Pick `number` of the candidate positions, fewer if there are fewer."""
    if not replace or len(candidates) == 0:
        number = min(number, len(candidates))
    return Picks(
        positions=rng.choice(candidates, number, replace=replace, shuffle=False),
        becomes_mask=rng.random(number) < MASKED_SHARE,
        uniform=1.0 - rng.random(number),
        candidates=len(candidates),
    )


def mark_candidates(dictionary) -> np.ndarray:
    """Which of the dictionary's entries can be picked: (V,) bool, false for special symbols."""
    can_be_picked = np.ones(len(dictionary), dtype=bool)
    specials = [dictionary.bos(), dictionary.eos(), dictionary.pad(), dictionary.index("<mask>")]
    can_be_picked[specials] = False
    return can_be_picked


class PickDataset(LengthDataset):
    """Blocks of tokens with the positions whose tokens the generator replaces.

    Args:
        dataset: items are tokens (T,), or dicts with `tokens` and `token_types`, both (T,).
        sizes: (N,) lengths of the items.
        dictionary: fairseq's, with `<mask>`.
        mask_prob: share of the tokens to pick.
        limit: most positions to pick, see `max_picks`.
        with_replacement: draw positions as the authors' code does; fewer than the stated share are
            then distinct (13.8 % of 128 tokens for 15 %).
        seed: with the epoch and the item's index, decides everything random.
        lengths: ascending; batches are padded to one of them, and their slots to what its sentences
            can need, so that a compiled step sees few shapes. None: to the longest sentence.
    """

    def __init__(
        self,
        dataset,
        sizes,
        dictionary,
        mask_prob,
        limit,
        with_replacement=False,
        seed=1,
        lengths: Optional[Sequence[int]] = None,
    ):
        super().__init__(sizes)
        self.dataset = dataset
        self.pad_idx = dictionary.pad()
        self.can_be_picked = mark_candidates(dictionary)
        self.mask_prob = mask_prob
        self.limit = limit
        self.with_replacement = with_replacement
        self.seed = seed
        self.lengths = lengths
        self.epoch = 1

    def __getitem__(self, index: int) -> Dict:
        item = self.dataset[index]
        tokens, token_types = (
            (item["tokens"], item["token_types"]) if isinstance(item, dict) else (item, None)
        )
        return {
            "id": index,
            "tokens": tokens,
            "token_types": token_types,
            "picks": self.pick(tokens, index),
        }

    def pick(self, tokens: Tensor, index: int) -> Picks:
        """The picks of the sentence `tokens` (T,), the same whenever they are asked for."""
        rng = GENERATOR.restart(self.seed, (self.epoch << 40) + index)
        candidates = np.flatnonzero(self.can_be_picked[tokens.numpy()])
        number = count_picks(len(tokens), self.mask_prob, self.limit)
        return pick(candidates, number, rng, self.with_replacement)

    def choose_shape(self, lengths: List[int], num_picked: List[int]) -> Tuple[int, int]:
        """T and K of a batch of sentences with such lengths and numbers of picks."""
        longest = max(lengths)
        if self.lengths is None:
            return longest, max(num_picked)
        length = next((length for length in self.lengths if length >= longest), longest)
        return length, count_picks(length, self.mask_prob, self.limit)

    def collater(self, samples: List[Dict]) -> Dict:
        """Pad sentences and picks: B sentences, T tokens, K slots."""
        if not samples:
            return {}
        lengths = [len(sample["tokens"]) for sample in samples]
        picks = [sample["picks"] for sample in samples]
        num_picked = [len(pick.positions) for pick in picks]
        length, slots = self.choose_shape(lengths, num_picked)
        has_padding = min(lengths) < length
        tensors = {
            "id": torch.tensor([sample["id"] for sample in samples]),
            "src_tokens": pad_rows([sample["tokens"] for sample in samples], self.pad_idx, length),
            "picked": pad_rows([pick.positions for pick in picks], 0, slots),
            "picked_weights": pad_rows([np.ones(number) for number in num_picked], 0, slots),
            "becomes_mask": pad_rows([pick.becomes_mask for pick in picks], False, slots),
            "uniform": pad_rows([pick.uniform for pick in picks], 1.0, slots),
        }
        if samples[0]["token_types"] is not None:
            types = [sample["token_types"] for sample in samples]
            tensors["token_types"] = pad_rows(types, 0, length)
        if has_padding and self.lengths is None:
            tensors["places"] = find_places(lengths, length)
        packed = pack_tensors(tensors)
        return {
            "id": packed.pop("id"),
            "net_input": {**packed, "has_padding": has_padding},
            "nsentences": len(samples),
            "ntokens": sum(lengths),
            "npicked": sum(num_picked),
            "ncandidates": sum(pick.candidates for pick in picks),
        }

    @property
    def supports_prefetch(self) -> bool:
        return getattr(self.dataset, "supports_prefetch", False)

    def prefetch(self, indices) -> None:
        self.dataset.prefetch(indices)

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        self.epoch = epoch
