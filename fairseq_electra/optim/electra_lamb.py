"""LAMB for very large batches, ``--optimizer electra_lamb``.

    update = m / (sqrt(v) + eps) + weight_decay * param
    param -= lr * |param| / |update| * update

The same parameter groups as electra_adam; those without weight decay get no trust ratio. NVIDIA
Apex's FusedLAMB on CUDA, torch's multi-tensor kernels elsewhere; both share one state.
"""

import logging
import math
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List

import torch
from fairseq.dataclass import ChoiceEnum
from fairseq.optim import register_optimizer
from omegaconf import II

from fairseq_electra.optim.electra_adam import GroupAdam
from fairseq_electra.optim.electra_optimizer import (
    ElectraOptimizer,
    load_apex_class,
    prefers_apex,
    read_betas,
    read_non_negative,
)
from fairseq_electra.optim.layerwise import LayerwiseConfig, make_groups

logger = logging.getLogger(__name__)

LAMB_IMPL_CHOICES = ChoiceEnum(["auto", "apex", "torch"])


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
    lamb_impl: LAMB_IMPL_CHOICES = field(
        default="auto",
        metadata={
            "help": "apex: NVIDIA Apex's FusedLAMB (CUDA); torch: torch's multi-tensor kernels; "
            "auto: apex where it can be used, else torch"
        },
    )
    lr: List[float] = field(default=II("optimization.lr"))


class TorchLamb(GroupAdam):
    """LAMB in torch's multi-tensor operations, with FusedLAMB's rule for the trust ratio."""

    def _update_group(self, group, params, grads, exp_avgs, exp_avg_sqs) -> None:
        beta1, beta2 = group["betas"]
        torch._foreach_lerp_(exp_avgs, grads, 1 - beta1)
        torch._foreach_mul_(exp_avg_sqs, beta2)
        torch._foreach_addcmul_(exp_avg_sqs, grads, grads, value=1 - beta2)
        correction1 = correction2 = 1.0
        if group["bias_correction"]:
            correction1 = 1 - beta1 ** group["step"]
            correction2 = 1 - beta2 ** group["step"]

        denominators = torch._foreach_sqrt(exp_avg_sqs)
        torch._foreach_div_(denominators, math.sqrt(correction2))
        torch._foreach_add_(denominators, group["eps"])
        updates = torch._foreach_div(exp_avgs, denominators)
        torch._foreach_div_(updates, correction1)
        if group["weight_decay"] > 0:
            torch._foreach_add_(updates, params, alpha=group["weight_decay"])
            torch._foreach_mul_(updates, trust_ratios(params, updates))
        torch._foreach_add_(params, updates, alpha=-group["lr"])


def trust_ratios(params: List[torch.Tensor], updates: List[torch.Tensor]) -> List[torch.Tensor]:
    """|param| / |update| of each parameter, (); 1 where either norm is 0. Nothing is read back."""
    ratios = []
    for norm, length in zip(torch._foreach_norm(params), torch._foreach_norm(updates), strict=True):
        ratios.append(torch.where((norm > 0) & (length > 0), norm / length, 1.0))
    return ratios


def choose_lamb(impl: str, params: List[torch.nn.Parameter]) -> type:
    """Return the torch.optim.Optimizer class that ``--lamb-impl impl`` means for ``params``.

    Raises ValueError if that is ``apex`` and NVIDIA's Apex or CUDA is absent.
    """
    if impl == "auto":
        impl = "apex" if prefers_apex("FusedLAMB", params, "--lamb-impl") else "torch"
    if impl == "torch":
        return TorchLamb
    way_out = "Available here: --lamb-impl auto or torch."
    return load_apex_class("FusedLAMB", params, "--lamb-impl apex", way_out)


@register_optimizer("electra_lamb", dataclass=ElectraLambConfig)
class ElectraLamb(ElectraOptimizer):
    """LAMB (arXiv 1904.00962) with ELECTRA's parameter groups and clipping."""

    def __init__(self, cfg: ElectraLambConfig, params: Iterable[torch.nn.Parameter]):
        super().__init__(cfg)
        params = list(params)
        lamb_class = choose_lamb(str(cfg.lamb_impl), params)
        logger.info("electra_lamb uses %s", lamb_class.__name__)
        config = self.optimizer_config
        groups = make_groups(params, config["weight_decay"], cfg)
        # FusedLAMB would clip at 1 by itself, whatever --clip-norm says; fairseq has clipped
        # already. Not 0: its kernel divides by this.
        own = {} if lamb_class is TorchLamb else {"max_grad_norm": math.inf}
        self._optimizer = lamb_class(groups, **config, **own)
        self.set_lr(config["lr"])

    @property
    def optimizer_config(self) -> Dict[str, Any]:
        """The options under the names that both implementations take."""
        return {
            "lr": self.cfg.lr[0],
            "betas": read_betas(self.cfg.lamb_betas, "--lamb-betas"),
            "eps": read_non_negative(self.cfg.lamb_eps, "--lamb-eps"),
            "weight_decay": read_non_negative(self.cfg.weight_decay, "--weight-decay"),
            "bias_correction": self.cfg.lamb_bias_correction,
        }
