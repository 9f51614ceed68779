"""What a run's log amounts to: which training it was, its sizes, cost, curves and scores.

In: a Log of read_logs.py. Out: a Pretraining (ELECTRA, or a masked language model such as
fairseq's RoBERTa or electra_mlm, whose loss in bits becomes nats) or a Finetuning.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import numpy as np

from fairseq_electra.runs.count_flops import (
    TransformerSize,
    electra_flops,
    first_stage_flops,
    masked_lm_flops,
    without_judging,
)
from fairseq_electra.runs.read_logs import JUDGING_METRICS, Log, tells

MASKED_LM_METRICS = {"mlm_loss": ("loss", math.log(2))}  # ours -> (fairseq's, factor)
ELECTRA_METRICS = {
    "mlm_loss": ("gen_loss", 1.0),
    "encoder_mlm_loss": ("mlm_loss", 1.0),
    "clm_loss": ("clm_loss", 1.0),
    **{name: (name, 1.0) for name in ("masked_acc", *JUDGING_METRICS, "feature_dims")},
}
FINETUNING_TASKS = {  # task -> the metric that is read where none chose a checkpoint, in percent by
    "sentence_prediction": ("accuracy", 1.0),
    "electra_tagging": ("f1", 100.0),
}
SIZE_OPTIONS = {
    "layers": "encoder_layers",
    "hidden": "encoder_embed_dim",
    "ffn": "encoder_ffn_embed_dim",
    "heads": "encoder_attention_heads",
}

GENERATOR_OPTIONS = {
    "layers": "generator_layers",
    "ffn": "generator_ffn_embed_dim",
    "heads": "generator_attention_heads",
    "embedding": "generator_embedding_size",
}


@dataclass
class Pretraining:
    """A pre-training run; curves hold (updates, values) by metric and "train" or "held out"."""

    kind: str  # "electra" or "masked_lm"
    log: Log
    flops_per_token: Optional[float]  # after the first stage, if there is one
    missing: str  # why flops_per_token is None
    curves: Dict[Tuple[str, str], Tuple[List[int], List[float]]]
    mlm_updates: int = 0  # of the first stage
    mlm_flops_per_token: Optional[float] = None  # in it

    def updates(self) -> int:
        return self.log.updates()

    def updates_at(self, updates) -> np.ndarray:
        """The updates themselves, as the other `..._at` give tokens, hours and FLOPs."""
        return np.asarray(updates, dtype=float)

    def tokens_at(self, updates) -> np.ndarray:
        """Tokens (padding not counted) seen up to each of the updates."""
        ends = sorted(u for u, m in self.log.training().items() if "wpb" in m)
        if not ends:
            return np.full(np.shape(updates), np.nan)
        rates = [self.log.training()[end]["wpb"] for end in ends]
        if ends[-1] < self.updates():  # what no interval covers goes on as the last one did
            ends, rates = [*ends, self.updates()], [*rates, rates[-1]]
        seen = np.cumsum(np.diff([0, *ends]) * rates)
        return np.interp(updates, [0, *ends], [0, *seen])

    def hours_at(self, updates) -> np.ndarray:
        """Hours since the start, set-up and validation counted, at each of the updates."""
        known = sorted(self.log.seconds)
        if not known:
            return np.full(np.shape(updates), np.nan)
        return np.interp(updates, [0, *known], [0, *(self.log.seconds[u] for u in known)]) / 3600

    def flops_at(self, updates) -> np.ndarray:
        """Training FLOPs up to each of the updates; a token's are others in the first stage."""
        first = self.tokens_at(np.minimum(updates, self.mlm_updates))
        second = self.tokens_at(updates) - first
        cost = self.flops_per_token or math.nan
        return first * (self.mlm_flops_per_token or cost) + second * cost

    def held_out(self) -> Dict[str, float]:
        """Each held-out metric at the last validation."""
        return {
            metric: values[-1]
            for (metric, split), (_, values) in self.curves.items()
            if split == "held out"
        }


@dataclass
class Finetuning:
    """A fine-tuning run: its best validation score in percent, and the score's name.

    `task` is the name of the folder with its data.
    """

    log: Log
    task: str
    metric: str
    score: float


def name_kind(log: Log) -> str:
    """One of electra, masked_lm and finetuning, by the metrics and the task.

    Raises:
        SystemExit: if it is the log of something else.
    """
    metrics = {name for records in log.splits.values() for m in records.values() for name in m}
    task = log.option("task", "_name")
    if "disc_loss" in metrics:
        return "electra"
    if task == "masked_lm" or (task is None and "ppl" in metrics):
        return "masked_lm"
    if task in FINETUNING_TASKS or "accuracy" in metrics:
        return "finetuning"
    known = ", ".join(("electra", "masked_lm", *FINETUNING_TASKS))
    raise SystemExit(f"{log.path}: a log of task {task}; what can be compared: {known}")


def measure_pretraining(
    log: Log, kind: str, flops_per_token: Optional[float] = None
) -> Pretraining:
    """Curves and cost of a pre-training run; `flops_per_token` overrules the log's sizes."""
    missing, mlm_flops_per_token = "", None
    if flops_per_token is None:
        try:
            flops_per_token, mlm_flops_per_token = count_flops_per_token(log, kind)
        except KeyError as error:
            missing = f"{log.path} does not say {error.args[0]}"
    names = ELECTRA_METRICS if kind == "electra" else MASKED_LM_METRICS
    curves = {}
    for split, records in (("train", log.training()), ("held out", log.held_out())):
        for metric, (name, factor) in names.items():
            updates = sorted(u for u, metrics in records.items() if tells(metrics, name))
            if updates:
                values = [records[u][name] * factor for u in updates]
                curves[metric, split] = (updates, values)
    mlm_updates = int(log.option("model", "mlm_updates") or 0) if kind == "electra" else 0
    return Pretraining(
        kind, log, flops_per_token, missing, curves, mlm_updates, mlm_flops_per_token
    )


def measure_finetuning(log: Log) -> Finetuning:
    """The best held-out score, by the metric that chose the best checkpoint if it was a score.

    Raises:
        SystemExit: if the log has no held-out score.
    """
    usual, percent = FINETUNING_TASKS.get(log.option("task", "_name"), ("accuracy", 1.0))
    metric = log.option("checkpoint", "best_checkpoint_metric") or usual
    metric = usual if metric in ("loss", "nll_loss") else metric
    scores = [metrics.get(metric, math.nan) * percent for metrics in log.held_out().values()]
    scores = [score for score in scores if math.isfinite(score)]
    if not scores:
        raise SystemExit(f"{log.path}: no held-out {metric} yet; fine-tune with validation on")
    task = Path(log.option("task", "data") or "").name
    return Finetuning(log, task, metric, max(scores))


def need(found: Optional[str], name: str) -> str:
    """The value of an option, or a KeyError that says which is not in the log."""
    if found is None:
        raise KeyError(name)
    return found


def read_size(log: Log) -> TransformerSize:
    """Sizes of the encoder that is kept after pre-training; KeyError names what is missing."""
    sizes = {key: int(need(log.option("model", name), name)) for key, name in SIZE_OPTIONS.items()}
    embedding = log.option("model", "embedding_size")
    return TransformerSize(**sizes, embedding=int(embedding or sizes["hidden"]))


def count_flops_per_token(log: Log, kind: str) -> Tuple[float, Optional[float]]:
    """Training FLOPs a token by count_flops.py, from the sizes in the log.

    The second number is that of ELECTRA's first stage.
    """
    size = read_size(log)
    if "embed_tokens" not in log.tables:
        raise KeyError("the vocabulary size (the printed model's embed_tokens)")
    setting = (
        log.tables["embed_tokens"][0],
        int(need(log.option("task", "tokens_per_sample"), "tokens_per_sample")),
        float(need(log.option("task", "mask_prob"), "mask_prob")),
    )
    if kind == "masked_lm":
        return sum(masked_lm_flops(size, *setting).values()), None
    generator_size = float(need(log.option("model", "generator_size"), "generator_size"))
    given = {key: log.option("model", name) for key, name in GENERATOR_OPTIONS.items()}
    changes = {key: int(value) for key, value in given.items() if value}
    if log.option("model", "generator_from"):
        changes.update(read_given(log))
    switches = {
        "untied": "untie_embeddings",  # the former name
        "two_towers": "two_tower_generator",
        "is_frozen": "freeze_generator",
    }
    for change, name in switches.items():
        changes[change] = log.option("model", name) == "True"
    changes["untied"] |= log.option("model", "embedding_sharing") == "none"
    corrects = float(log.option("model", "clm_weight") or 0) > 0
    first = first_stage_flops(size, generator_size, *setting, **changes)
    second = electra_flops(size, generator_size, *setting, corrects=corrects, **changes)
    if float(log.option("criterion", "disc_weight") or 1) == 0:
        second = without_judging(second)
    return sum(second.values()), sum(first.values())


def read_given(log: Log) -> Dict[str, int]:
    """Sizes of the generator of --generator-from; KeyError if it is gone, and the save-dir too."""
    from fairseq_electra.runs.given_generator import read_sizes  # slow, and seldom needed

    path = log.option("model", "generator_from")
    try:
        return read_sizes(path, log.option("checkpoint", "save_dir"))
    except (OSError, ValueError) as error:
        raise KeyError(f"the generator's sizes ({error})") from None


def count_encoder_parameters(log: Log) -> Optional[int]:
    """Parameters of embeddings and layers, without any head; None if the log lacks a size."""
    try:
        size = read_size(log)
    except KeyError:
        return None
    if "embed_tokens" not in log.tables:
        return None
    hidden, ffn, width = size.hidden, size.ffn, size.embedding
    tables = sum(rows * columns for rows, columns in log.tables.values())
    project = width * hidden + hidden if width != hidden else 0
    attention = 4 * (hidden * hidden + hidden)
    feed_forward = 2 * hidden * ffn + ffn + hidden
    norms = 2 * 2 * hidden
    return tables + 2 * width + project + size.layers * (attention + feed_forward + norms)
