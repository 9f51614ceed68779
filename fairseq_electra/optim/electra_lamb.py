"""LAMB for very large batches, ``--optimizer electra_lamb``: NVIDIA Apex's FusedLAMB on CUDA.

The same parameter groups as electra_adam; those without weight decay get no trust ratio.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List

import torch
from fairseq.optim import register_optimizer
from omegaconf import II

from fairseq_electra.optim.electra_optimizer import (
    ElectraOptimizer,
    load_apex_class,
    read_betas,
    read_non_negative,
)
from fairseq_electra.optim.layerwise import LayerwiseConfig, make_groups


@dataclass
class ElectraLambConfig(LayerwiseConfig):
    """Options of electra_lamb; the defaults are those of electra_adam."""

    lamb_betas: Any = field(
        default=(0.9, 0.999),
        metadata={"help": "decay rates of the gradient's running mean and mean square"},
    )
    lamb_eps: float = field(default=1e-6, metadata={"help": "added to the root of the mean square"})
    weight_decay: float = field(
        default=0.01,
        metadata={"help": "decoupled weight decay, on all but biases and LayerNorm"},
    )
    lamb_bias_correction: bool = field(
        default=False, metadata={"help": "correct the running means for their start at 0"}
    )
    lr: List[float] = field(default=II("optimization.lr"))


@register_optimizer("electra_lamb", dataclass=ElectraLambConfig)
class ElectraLamb(ElectraOptimizer):
    """LAMB (arXiv 1904.00962) by Apex's FusedLAMB. ValueError without Apex or CUDA."""

    def __init__(self, cfg: ElectraLambConfig, params: Iterable[torch.nn.Parameter]):
        super().__init__(cfg)
        params = list(params)
        way_out = "Without Apex use --optimizer electra_adam."
        lamb_class = load_apex_class("FusedLAMB", params, "--optimizer electra_lamb", way_out)
        config = self.optimizer_config
        self._optimizer = lamb_class(make_groups(params, config["weight_decay"], cfg), **config)
        self.set_lr(config["lr"])

    @property
    def optimizer_config(self) -> Dict[str, Any]:
        """The options under FusedLAMB's names."""
        return {
            "lr": self.cfg.lr[0],
            "betas": read_betas(self.cfg.lamb_betas, "--lamb-betas"),
            "eps": read_non_negative(self.cfg.lamb_eps, "--lamb-eps"),
            "weight_decay": read_non_negative(self.cfg.weight_decay, "--weight-decay"),
            "bias_correction": self.cfg.lamb_bias_correction,
            # FusedLAMB would clip at 1 by itself, whatever --clip-norm says; fairseq has clipped
            # already. Not 0: its kernel divides by this.
            "max_grad_norm": math.inf,
        }
