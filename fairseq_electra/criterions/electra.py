"""`--criterion electra`: the model's facts in, the weighted sum of two mean losses and metrics out.

All losses are in nats, as in the paper (fairseq's masked_lm reports bits).
"""

import functools
import math
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Tuple

import torch
import torch.nn.functional as F
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.logging import metrics
from torch import Tensor

from fairseq_electra.criterions.discriminator_metrics import (
    BINS,
    compute_context_auc,
    compute_discriminator_metrics,
    count_logits,
    count_logits_by_token,
)
from fairseq_electra.criterions.feature_metrics import compute_feature_metrics, sum_features
from fairseq_electra.models.electra import ElectraOutput
from fairseq_electra.models.electra_config import read_run_option
from fairseq_electra.modules.compiling import compile_step

COUNTS = ("nwords", "npicked")  # that the generator predicts, that are picked: the same with masks
HITS = ("masked_acc", "sampled_acc")  # of the first, of the second
# of the discriminator's encoder: with "_loss" and "_acc" during --mlm-updates, of --clm-weight
WORDS = ("mlm", "clm")
JUDGED = ("disc_acc", "disc_precision", "disc_recall", "disc_auc", "replaced")
FEATURES = ("feature_mean", "feature_dims")  # held out
CONTEXT = "disc_auc_context"  # held out, not during --mlm-updates
HELD_OUT_SUMS = ("_features", "_disc_by_token")  # large


@dataclass
class ElectraCriterionConfig(FairseqDataclass):
    """Weights of the two losses, and what the second is of."""

    gen_weight: float = field(default=1.0, metadata={"help": "weight of the generator's loss"})
    disc_weight: float = field(
        default=50.0, metadata={"help": "weight of the discriminator's loss"}
    )
    disc_loss_on: ChoiceEnum(["all", "picked"]) = field(
        default="all",
        metadata={
            "help": "tokens that the discriminator's loss and metrics are of: all, or those that "
            "were picked to be masked, as in the paper's ablation"
        },
    )


def check_weights(cfg: ElectraCriterionConfig) -> None:
    """Raise ValueError, naming the option, for weights with which nothing sensible is learned."""
    for option, weight in (("--gen-weight", cfg.gen_weight), ("--disc-weight", cfg.disc_weight)):
        if not 0 <= weight < math.inf:
            raise ValueError(f"{option} must be a number, 0 or more, not {weight}")
    if cfg.gen_weight == cfg.disc_weight == 0:
        raise ValueError("--gen-weight and --disc-weight are both 0: nothing would be learned")


# Tokens that a loss is the sum of, an update's of small. A sum over single ones overflows float16
# for ten updates, until fairseq's loss scale (--fp16) has fallen; a power of 2 rounds nothing.
UNIT = 128 * 128


@register_criterion("electra", dataclass=ElectraCriterionConfig)
class ElectraCriterion(FairseqCriterion):
    """gen_weight x mean over picked positions + disc_weight x mean over tokens but padding.

    During --mlm-updates the first mean is the sum of both encoders', and the discriminator counts
    as one that gives even odds, so that losses before and after can be compared. With disc_weight 0
    it counts so too, and is not computed. A frozen generator's mean is no part of the sum.
    Afterwards the model's clm_weight adds the encoder's mean over picked positions, which reads
    what replaced them.

    fairseq divides an update's summed gradients by one summed sample size, but there are two means.
    The sample size is the number of tokens, in units of `UNIT`, and a batch's loss is that number
    times its weighted means. So the discriminator's mean is that of the whole update however it is
    distributed over workers and batches; the generator's is too where each batch has the same share
    of picked positions, as with blocks of equal length, and otherwise weighs each batch's mean by
    its tokens.
    """

    def __init__(self, cfg: ElectraCriterionConfig, task):
        super().__init__(task)
        check_weights(cfg)
        self.gen_weight = cfg.gen_weight
        self.disc_weight = cfg.disc_weight
        self.judges_all = str(cfg.disc_loss_on) == "all"
        # by which --best-checkpoint-metric can choose: what every validation measures
        self.metric_names = ("loss", "disc_loss", "gen_loss", *HITS, *JUDGED)
        if cfg.disc_weight > 0:
            self.metric_names += FEATURES
            if not read_run_option(cfg, "model", "mlm_updates"):
                self.metric_names += (CONTEXT,)
                if read_run_option(cfg, "model", "clm_weight"):
                    self.metric_names += ("clm_loss", "clm_acc")
        elif read_run_option(cfg, "model", "clm_weight"):
            raise ValueError("--clm-weight corrects what --disc-weight 0 leaves out: give only one")
        self.measure = None  # `measure_output`, compiled as the model's step is

    def forward(self, model, sample: Dict, reduce: bool = True) -> Tuple[Tensor, float, Dict]:
        """Loss, sample size and logging output of a batch, as fairseq's criterions return them."""
        output, weights, nwords = self.ask(model, sample)
        is_token = sample["net_input"]["src_tokens"].ne(self.padding_idx)  # (B, T)
        ntokens = sample["ntokens"]
        if self.measure is None:
            self.measure = compile_step(measure_output, str(model.cfg.compile), is_token.device)

        is_judged = is_token
        if not self.judges_all:
            is_judged = mark_picked(sample["net_input"]["picked"], weights, is_token)
        gen_loss, encoder_loss, disc_loss, counts = self.measure(output, weights, is_judged)
        is_first = output.disc_logits is None
        clm_weight = 0.0 if is_first else model.cfg.clm_weight
        if not self.judges_all:  # a mean like the other one, for the division by all tokens
            disc_loss = disc_loss * (ntokens / is_judged.sum().clamp(min=1))
        trained = [] if model.cfg.freeze_generator else [gen_loss]
        trained += [encoder_loss] if is_first and encoder_loss is not None else []
        share = ntokens / max(nwords, 1)
        loss = self.gen_weight * (sum(trained) * share) + self.disc_weight * disc_loss
        if clm_weight > 0:
            loss = loss + clm_weight * (encoder_loss * share)
        if not self.training:
            counts.update(measure_held_out(output, is_token, is_judged))

        uninformed = len(trained) * self.gen_weight + clm_weight
        uninformed *= math.log(output.gen_logits.size(-1))
        uninformed += self.disc_weight * self.uninformed_disc_loss(output.gen_logits.size(-1))
        logging_output = {
            "loss": loss.detach(),
            "uninformed": ntokens * uninformed,
            "gen_loss": gen_loss.detach(),
            "disc_loss": disc_loss.detach(),
            "ntokens": ntokens,
            "nwords": nwords,
            "npicked": sample["npicked"],
            "nsentences": sample["nsentences"],
            "sample_size": ntokens,
            **counts,
        }
        # 0 in the other stage: fairseq goes on printing a meter once it is there
        for name, has_stage in zip(WORDS, (model.cfg.mlm_updates > 0, model.cfg.clm_weight > 0)):
            if has_stage:
                is_now = f"{name}_acc" in counts
                logging_output[f"{name}_loss"] = encoder_loss.detach() if is_now else 0.0
                logging_output[f"{name}_acc"] = counts.get(f"{name}_acc", 0)
                logging_output[f"{name}_npicked"] = sample["npicked"] if is_now else 0
        # They outlive the batch, but a CUDA graph's results do not (`--compile reduce-overhead`).
        return (
            loss / UNIT,
            ntokens / UNIT,
            {key: keep(value) for key, value in logging_output.items()},
        )

    def ask(self, model, sample: Dict) -> Tuple[ElectraOutput, Tensor, int]:
        """A batch's output, weights (B, K) of the words that the generator predicts, their sum."""
        net_input = sample["net_input"]
        weights = net_input["picked_weights"]
        if self.disc_weight == 0:  # what decides samples is left out: nothing is judged
            net_input = {key: net_input[key] for key in net_input if key != "uniform"}
        return model(**net_input), weights, sample["npicked"]

    def uninformed_disc_loss(self, num_tokens: int) -> float:
        """The discriminator's loss a token, in nats, of a model that knows nothing: even odds."""
        return math.log(2)

    @classmethod
    def reduce_metrics(cls, logging_outputs: List[Dict]) -> None:
        """Log the metrics of all workers' batches: sums are divided only here."""
        total = {
            key: sum(log.get(key, 0) for log in logging_outputs)
            for key in ("loss", "gen_loss", "disc_loss", "uninformed", "ntokens", *COUNTS)
        }
        ntokens, (nwords, npicked) = total["ntokens"], (max(int(total[key]), 1) for key in COUNTS)
        metrics.log_scalar("loss", total["loss"] / max(ntokens, 1), ntokens, round=4)
        # what divergence.py stops a run by
        metrics.log_scalar(
            "_times_uninformed", total["loss"] / max(total["uninformed"], 1e-9), ntokens
        )
        metrics.log_scalar("disc_loss", total["disc_loss"] / max(ntokens, 1), ntokens, round=4)
        metrics.log_scalar("gen_loss", total["gen_loss"] / nwords, nwords, round=4)
        for name in WORDS:
            if f"{name}_loss" not in logging_outputs[0]:
                continue
            count = sum(log[f"{name}_npicked"] for log in logging_outputs)  # 0: no part of a mean
            for key in (f"{name}_loss", f"{name}_acc"):
                value = sum(log[key] for log in logging_outputs) / max(count, 1)
                metrics.log_scalar(key, value, count, round=4)
        for key, count in zip(HITS, (nwords, npicked), strict=True):
            hits = sum(log.get(key, 0) for log in logging_outputs)
            metrics.log_scalar(key, hits / count, count, round=4)
        histogram = sum(log["disc_histogram"] for log in logging_outputs)
        metrics.log_scalar_sum("_disc_histogram", histogram)
        for key in JUDGED:
            metrics.log_derived(key, read_histogram(key))
        if "features" in logging_outputs[0]:
            metrics.log_scalar_sum("_features", sum(log["features"] for log in logging_outputs))
            for key in FEATURES:
                metrics.log_derived(key, read_features(key))
        if "disc_by_token" in logging_outputs[0]:
            histogram = sum(log["disc_by_token"].to_dense() for log in logging_outputs)
            metrics.log_scalar_sum("_disc_by_token", histogram)
            metrics.log_derived(CONTEXT, read_context_auc)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        return True


def read_histogram(key: str):
    """A function that reads one metric off the summed histogram among fairseq's meters."""
    return lambda meters: round(read_metrics(meters["_disc_histogram"].sum)[key], 4)


@functools.lru_cache(maxsize=1)  # fairseq asks for one metric after the other
def read_metrics(histogram: Tensor) -> Dict[str, float]:
    """All metrics of a histogram, which is read off the device once.

    It is the number 0 in an epoch without an update; all metrics are, too.
    """
    if not torch.is_tensor(histogram):
        return dict.fromkeys(JUDGED, 0.0)
    return compute_discriminator_metrics(histogram)


def read_features(key: str):
    """A function that reads one metric off the summed products among fairseq's meters."""
    return lambda meters: round(read_feature_metrics(meters["_features"].sum)[key], 4)


@functools.lru_cache(maxsize=1)
def read_feature_metrics(sums: Tensor) -> Dict[str, float]:
    """Both metrics of the summed products."""
    return compute_feature_metrics(sums)


def read_context_auc(meters) -> float:
    """Of the summed histogram by token among fairseq's meters."""
    return round(compute_context_auc(meters["_disc_by_token"].sum), 4)


def keep(value):
    """A copy of a tensor; numbers as they are."""
    return value.clone() if torch.is_tensor(value) else value


def mark_picked(picked: Tensor, weights: Tensor, is_token: Tensor) -> Tensor:
    """The tokens (B, T) that a slot of `picked` (B, K) with a weight points at."""
    slots = torch.zeros_like(is_token, dtype=torch.long)
    return slots.scatter_add_(1, picked, (weights > 0).long()) > 0


def measure_output(
    output, weights: Tensor, is_judged: Tensor
) -> Tuple[Tensor, Optional[Tensor], Tensor, Dict]:
    """Everything that is computed of a batch's output, on the device, with static shapes.

    Args:
        output: an ElectraOutput.
        weights: (B, K), 1 for used slots.
        is_judged: bool (B, T), false at padding, and where the discriminator's word does not count.

    Returns:
        Summed losses in nats, the generator's, its like of the discriminator's encoder (None
        without `mlm_logits`) and the discriminator's, and what is counted.
    """
    gen_logits, targets = output.gen_logits.float(), output.gen_targets
    counts = {"masked_acc": count_hits(gen_logits.detach().argmax(-1), targets, weights)}
    gen_loss = sum_generator_loss(gen_logits, targets, weights)
    encoder_loss = None
    if output.mlm_logits is not None:
        mlm_logits = output.mlm_logits.float()
        name = "mlm_acc" if output.disc_logits is None else "clm_acc"
        counts[name] = count_hits(mlm_logits.detach().argmax(-1), targets, weights)
        encoder_loss = sum_generator_loss(mlm_logits, targets, weights)
    if output.disc_logits is None:
        counts["disc_histogram"] = is_judged.new_zeros(2, BINS, dtype=torch.float64)
        return gen_loss, encoder_loss, is_judged.sum() * math.log(2), counts
    counts["sampled_acc"] = count_hits(output.sampled_tokens, targets, weights)
    counts["disc_histogram"] = count_logits(output.disc_logits, output.is_replaced, is_judged)
    return gen_loss, encoder_loss, sum_discriminator_loss(output, is_judged), counts


def measure_held_out(output, is_token: Tensor, is_judged: Tensor) -> Dict[str, Tensor]:
    """What only validation counts: whether the features are alive, and the context is read."""
    counts = {}
    if output.disc_features is not None:
        counts["features"] = sum_features(output.disc_features, is_token)
    if output.disc_logits is not None:
        by_token = count_logits_by_token(
            output.disc_logits,
            output.is_replaced,
            is_judged,
            output.corrupted_tokens,
            output.gen_logits.size(-1),
        )
        is_summed = torch.distributed.is_initialized()  # by fairseq, over workers
        counts["disc_by_token"] = by_token.to_dense() if is_summed else by_token
    return counts


def sum_generator_loss(gen_logits: Tensor, gen_targets: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy in nats summed over the picked slots, of float32 logits (B, K, V)."""
    losses = F.cross_entropy(gen_logits.flatten(0, 1), gen_targets.flatten(), reduction="none")
    return (losses * weights.flatten().float()).sum()


def sum_discriminator_loss(output, is_judged: Tensor) -> Tensor:
    """Binary cross-entropy in nats summed over the tokens (B, T) that count, in float32."""
    return F.binary_cross_entropy_with_logits(
        output.disc_logits.float(),
        output.is_replaced.float(),
        weight=is_judged.float(),
        reduction="sum",
    )


def count_hits(guesses: Tensor, gen_targets: Tensor, weights: Tensor) -> Tensor:
    """At how many used slots the guess (B, K) is the original."""
    return (guesses.eq(gen_targets) & (weights > 0)).sum()
