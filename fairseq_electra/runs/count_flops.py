"""FLOPs of a token in pre-training: the terms of the authors' own tool, each under its name.

In: sizes of the networks, vocabulary, tokens a sample, share of positions predicted. Out: FLOPs
a token by part of the network. `flops.py` is the command, `compare_runs.py` the other user.
"""

from dataclasses import dataclass, replace
from typing import Dict

# Operations an element, as the authors' tool counts them.
DROPOUT = 4  # draw, compare, multiply by the mask, rescale
LAYER_NORM = 5  # mean, square, variance, scale, shift
GELU = 8
SOFTMAX = 5  # max, subtract, exp, sum, divide
WORD_LOSS = 2  # pick the target's log probability out of the vocabulary


@dataclass(frozen=True)
class TransformerSize:
    """Sizes of one post-LN encoder; `embedding` is the width of its word table."""

    layers: int
    hidden: int
    ffn: int
    heads: int
    embedding: int

    def generator(
        self, generator_size: float, untied: bool = False, **changes: int
    ) -> "TransformerSize":
        """ELECTRA's generator beside this discriminator, as models/electra.py builds it.

        `changes` are layers, ffn, heads and the embeddings' width where the generator's options
        give them, and with --generator-from its hidden size.
        """
        hidden = round(self.hidden * generator_size)
        embedding = hidden if untied else self.embedding
        usual = TransformerSize(self.layers, hidden, 4 * hidden, max(1, hidden // 64), embedding)
        return replace(usual, **changes)

    def as_roberta(self) -> "TransformerSize":
        """fairseq's RoBERTa with the same layers: its embeddings are as wide as its layers."""
        return replace(self, embedding=self.hidden)


@dataclass(frozen=True)
class Convention:
    """How forward FLOPs become training FLOPs.

    `passes` multiplies the forward pass; `dense_lookup` counts the word look-up as a product
    with a one-hot vector, which no implementation runs.
    """

    passes: int
    dense_lookup: bool


def frozen(convention: Convention) -> Convention:
    """Of a network that is not trained: there is no backward pass."""
    return replace(convention, passes=1)


TRAINING = Convention(passes=3, dense_lookup=False)  # a backward pass costs two forward passes
PAPER = Convention(passes=2, dense_lookup=True)  # the totals printed in the paper


def layer_terms(size: TransformerSize, length: int) -> Dict[str, float]:
    """Forward FLOPs of one layer for one token of a sample of `length` tokens, by term."""
    hidden, ffn, scores = size.hidden, size.ffn, length * size.heads
    return {
        "query_key_value": 3 * (2 * hidden * hidden + hidden),
        "attention_scores": 2 * hidden * length + scores,  # the product, then the scaling
        "attention_softmax": SOFTMAX * scores,
        "attention_dropout": DROPOUT * scores,
        "attention_values": 2 * hidden * length,
        "attention_output": 2 * hidden * hidden + hidden,
        "attention_dropout_residual_norm": (DROPOUT + 1 + LAYER_NORM) * hidden,
        "ffn_up": 2 * hidden * ffn + ffn,
        "ffn_activation": GELU * ffn,
        "ffn_down": 2 * hidden * ffn + hidden,
        "ffn_dropout_residual_norm": (DROPOUT + 1 + LAYER_NORM) * hidden,
    }


def embedding_terms(
    size: TransformerSize, length: int, vocab_size: int, dense_lookup: bool
) -> Dict[str, float]:
    """Forward FLOPs of the input of one token, by term; the two other tables always as products."""
    width = size.embedding
    terms = {
        "word_lookup": 2 * width * vocab_size if dense_lookup else 0,
        "position_and_type_lookup": 2 * width * (length + 2),
        "add": 2 * width,
        "norm_dropout": (LAYER_NORM + DROPOUT) * width,
    }
    if size.embedding != size.hidden:
        terms["embeddings_project"] = 2 * width * size.hidden + size.hidden
    return terms


def word_head_terms(size: TransformerSize, vocab_size: int) -> Dict[str, float]:
    """Forward FLOPs of predicting the word of ONE position, by term."""
    width = size.embedding
    return {
        "dense": 2 * size.hidden * width + width,
        "activation_norm": (GELU + LAYER_NORM) * width,
        "logits": 2 * width * vocab_size,
        "softmax": SOFTMAX * vocab_size,
        "loss": WORD_LOSS * vocab_size,
    }


def replaced_head_terms(size: TransformerSize) -> Dict[str, float]:
    """Forward FLOPs of judging one token original or replaced, by term."""
    hidden = size.hidden
    return {
        "dense": 2 * hidden * hidden + hidden,
        "activation": GELU * hidden,
        "logit": 2 * hidden,
    }


def encoder_parts(
    size: TransformerSize, length: int, vocab_size: int, dense_lookup: bool
) -> Dict[str, float]:
    """Forward FLOPs of one token through one encoder, by part."""
    embeddings = embedding_terms(size, length, vocab_size, dense_lookup)
    return {
        "embeddings": sum(embeddings.values()),
        "layers": size.layers * sum(layer_terms(size, length).values()),
    }


def masked_lm_flops(
    size: TransformerSize,
    vocab_size: int,
    tokens_per_sample: int,
    mask_prob: float,
    convention: Convention = TRAINING,
) -> Dict[str, float]:
    """Training FLOPs a token of BERT or RoBERTa, by part: embeddings, layers, head.

    `mask_prob` is the share of positions whose word is predicted; the head runs at those alone.
    """
    parts = encoder_parts(size, tokens_per_sample, vocab_size, convention.dense_lookup)
    parts["head"] = mask_prob * sum(word_head_terms(size, vocab_size).values())
    return {part: convention.passes * flops for part, flops in parts.items()}


def two_tower_flops(
    size: TransformerSize, vocab_size: int, tokens_per_sample: int, convention: Convention
) -> Dict[str, float]:
    """Training FLOPs a token of Electric's generator, by part: two encoders of `size`.

    They share what is looked up. The head reads both and runs at every position. Attention is
    counted whole, as it is computed, though half of it is masked out.
    """
    terms = embedding_terms(size, tokens_per_sample, vocab_size, convention.dense_lookup)
    again = DROPOUT * size.embedding + terms.get("embeddings_project", 0)
    parts = {
        "embeddings": sum(terms.values()) + again,
        "layers": 2 * size.layers * sum(layer_terms(size, tokens_per_sample).values()),
        "head": sum(word_head_terms(replace(size, hidden=2 * size.hidden), vocab_size).values()),
    }
    return {part: convention.passes * flops for part, flops in parts.items()}


def electra_flops(
    discriminator: TransformerSize,
    generator_size: float,
    vocab_size: int,
    tokens_per_sample: int,
    mask_prob: float,
    convention: Convention = TRAINING,
    untied: bool = False,
    two_towers: bool = False,
    is_frozen: bool = False,
    corrects: bool = False,
    **generator_changes: int,
) -> Dict[str, float]:
    """Training FLOPs a token of both networks of ELECTRA, by network and part.

    `corrects`: the discriminator's encoder predicts words too (--clm-weight).
    `two_towers`: the generator is Electric's.
    `untied`: the generator has embedding tables of its own, as wide as its layers.
    `is_frozen`: the generator is not trained.
    `generator_changes`: its sizes where they are not the usual ones, as for `generator`.
    """
    small = discriminator.generator(generator_size, untied, **generator_changes)
    passes = frozen(convention) if is_frozen else convention
    if two_towers:
        generator = two_tower_flops(small, vocab_size, tokens_per_sample, passes)
    else:
        generator = masked_lm_flops(small, vocab_size, tokens_per_sample, mask_prob, passes)
    judge = encoder_parts(discriminator, tokens_per_sample, vocab_size, convention.dense_lookup)
    judge["head"] = sum(replaced_head_terms(discriminator).values())
    if corrects:
        judge["word head"] = mask_prob * sum(word_head_terms(discriminator, vocab_size).values())
    parts = {f"generator {part}": flops for part, flops in generator.items()}
    for part, flops in judge.items():
        parts[f"discriminator {part}"] = convention.passes * flops
    return parts


def first_stage_flops(
    discriminator: TransformerSize,
    generator_size: float,
    vocab_size: int,
    tokens_per_sample: int,
    mask_prob: float,
    convention: Convention = TRAINING,
    **generator_options: int,
) -> Dict[str, float]:
    """The same during ELECTRA's --mlm-updates: both encoders predict words, nothing is judged.

    The arguments are those of `electra_flops`; the second network is what `electra_mlm` is.
    """
    setting = (vocab_size, tokens_per_sample, mask_prob, convention)
    parts = electra_flops(discriminator, generator_size, *setting, **generator_options)
    parts["discriminator head"] = masked_lm_flops(discriminator, *setting)["head"]
    return parts


def without_judging(parts: Dict[str, float]) -> Dict[str, float]:
    """Those of `electra_flops` that are computed with --disc-weight 0: the generator's."""
    return {part: flops for part, flops in parts.items() if part.startswith("generator ")}


def mean_flops(updates: int, mlm_updates: int, first: float, second: float) -> float:
    """FLOPs a token over a run whose first `mlm_updates`, or all of fewer, cost `first`."""
    share = min(mlm_updates, updates) / updates
    return share * first + (1 - share) * second


def match_updates(updates: int, cost: float, other_cost: float) -> int:
    """Updates at `other_cost` that spend what `updates` at `cost` spend, to the nearest; >= 1."""
    return max(1, round(updates * cost / other_cost))
