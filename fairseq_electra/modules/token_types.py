"""Token types of a pair of sentences, for data code that knows none (fairseq's sentence tasks)."""

from torch import Tensor


def mark_second_sentence(tokens: Tensor, eos_idx: int, pad_idx: int) -> Tensor:
    """Tokens (B, T) `<s> a </s> b </s>`, padded on the right -> types (B, T): b and its end 1.

    As the authors do (finetune/classification): the first `</s>` is type 0, padding too. All types
    of a single sentence are 0.
    """
    is_end = tokens.eq(eos_idx).long()
    ends_before = is_end.cumsum(1) - is_end
    return (ends_before.gt(0) & tokens.ne(pad_idx)).long()
