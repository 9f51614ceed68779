"""ELECTRA's Adam, ``--optimizer electra_adam``: no bias correction, weight decay on matrices only.

    update = m / (sqrt(v) + eps) + weight_decay * param;  param -= lr * update

Three implementations of the same update behind --adam-impl share one state, so that a checkpoint
of any of them is resumed by any other, on GPU or CPU.
"""

import logging
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

import torch
from fairseq.dataclass import ChoiceEnum
from fairseq.optim import register_optimizer
from omegaconf import II
from torch.optim.adamw import adamw

from fairseq_electra.optim.electra_optimizer import (
    ElectraOptimizer,
    load_apex_class,
    prefers_apex,
    read_betas,
    read_non_negative,
)
from fairseq_electra.optim.layerwise import LayerwiseConfig, make_groups

logger = logging.getLogger(__name__)

ADAM_IMPL_CHOICES = ChoiceEnum(["auto", "apex", "torch", "reference"])

# beta ** this is 0 for every beta below 1, and adding 1 to it in float32 leaves it as it is.
ENDLESS = torch.finfo(torch.float32).max


@dataclass
class ElectraAdamConfig(LayerwiseConfig):
    """Options of electra_adam; the defaults are the authors'."""

    adam_betas: Any = field(
        default=(0.9, 0.999),
        metadata={"help": "decay rates of the gradient's running mean and mean square"},
    )
    adam_eps: float = field(default=1e-6, metadata={"help": "added to the root of the mean square"})
    weight_decay: float = field(
        default=0.01,
        metadata={"help": "decoupled weight decay, on all but biases and LayerNorm"},
    )
    adam_bias_correction: bool = field(
        default=False,
        metadata={"help": "correct the running means for their start at 0 (ELECTRA does not)"},
    )
    adam_impl: ADAM_IMPL_CHOICES = field(
        default="auto",
        metadata={
            "help": "apex: NVIDIA Apex's FusedAdam (CUDA); torch: torch's fused AdamW; "
            "reference: plain and slow; auto: apex where it can be used, else torch"
        },
    )
    lr: List[float] = field(default=II("optimization.lr"))


class GroupAdam(torch.optim.Optimizer):
    """Adam with the state of Apex's FusedAdam: ``exp_avg`` and ``exp_avg_sq`` of each parameter,
    and in each group ``step``, the number of updates, which only bias correction reads.

    A subclass says in ``_update_group`` how the parameters that have a gradient change.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: Tuple[float, float],
        eps: float,
        weight_decay: float,
        bias_correction: bool,
    ):
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "bias_correction": bias_correction,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], Any]] = None) -> Any:
        """Update every parameter that has a gradient; return the closure's value, if any."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            group["step"] = group.get("step", 0) + 1
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                states = [self._state_of(p) for p in params]
                self._update_group(
                    group,
                    params,
                    [p.grad for p in params],
                    [state["exp_avg"] for state in states],
                    [state["exp_avg_sq"] for state in states],
                )
        return loss

    def _state_of(self, param: torch.Tensor) -> Dict[str, torch.Tensor]:
        state = self.state[param]
        if not state:
            state["exp_avg"] = torch.zeros_like(param)
            state["exp_avg_sq"] = torch.zeros_like(param)
        return state

    def _update_group(
        self,
        group: Dict[str, Any],
        params: List[torch.Tensor],
        grads: List[torch.Tensor],
        exp_avgs: List[torch.Tensor],
        exp_avg_sqs: List[torch.Tensor],
    ) -> None:
        """Change ``params``, ``exp_avgs`` and ``exp_avg_sqs`` in place, by the group's options."""
        raise NotImplementedError  # abstract: ReferenceAdam and TorchAdam say how


class ReferenceAdam(GroupAdam):
    """The update as recipes write it, one parameter at a time."""

    def _update_group(self, group, params, grads, exp_avgs, exp_avg_sqs) -> None:
        beta1, beta2 = group["betas"]
        correction1 = correction2 = 1.0
        if group["bias_correction"]:
            correction1 = 1 - beta1 ** group["step"]
            correction2 = 1 - beta2 ** group["step"]
        for param, grad, m, v in zip(params, grads, exp_avgs, exp_avg_sqs, strict=True):
            m.mul_(beta1).add_((1 - beta1) * grad)
            v.mul_(beta2).add_((1 - beta2) * grad.square())
            update = (m / correction1) / ((v / correction2).sqrt() + group["eps"])
            param.sub_(group["lr"] * (update + group["weight_decay"] * param))


class TorchAdam(GroupAdam):
    """torch's fused AdamW, told that so many updates were made that both corrections are 1."""

    def _update_group(self, group, params, grads, exp_avgs, exp_avg_sqs) -> None:
        # adamw adds 1 to each count first, so each needs its own place in memory.
        count = group["step"] - 1.0 if group["bias_correction"] else ENDLESS
        counts = torch.full((len(params),), count, dtype=torch.float32, device=params[0].device)
        beta1, beta2 = group["betas"]
        adamw(
            params,
            grads,
            exp_avgs,
            exp_avg_sqs,
            [],
            list(counts.unbind()),
            fused=True,
            amsgrad=False,
            maximize=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
        )


def choose_adam(impl: str, params: List[torch.nn.Parameter]) -> type:
    """Return the torch.optim.Optimizer class that ``--adam-impl impl`` means for ``params``.

    Raises ValueError if that is ``apex`` and NVIDIA's Apex or CUDA is absent.
    """
    if impl == "auto":
        impl = "apex" if prefers_apex("FusedAdam", params, "--adam-impl") else "torch"
    if impl == "apex":
        way_out = "Available here: --adam-impl auto, torch or reference."
        return load_apex_class("FusedAdam", params, "--adam-impl apex", way_out)
    return {"torch": TorchAdam, "reference": ReferenceAdam}[impl]


@register_optimizer("electra_adam", dataclass=ElectraAdamConfig)
class ElectraAdam(ElectraOptimizer):
    """Adam as google-research/electra runs it (model/optimization.py, commit 8a46635)."""

    def __init__(self, cfg: ElectraAdamConfig, params: Iterable[torch.nn.Parameter]):
        super().__init__(cfg)
        params = list(params)
        adam_class = choose_adam(str(cfg.adam_impl), params)
        logger.info("electra_adam uses %s", adam_class.__name__)
        config = self.optimizer_config
        self._optimizer = adam_class(make_groups(params, config["weight_decay"], cfg), **config)
        self.set_lr(config["lr"])

    @property
    def optimizer_config(self) -> Dict[str, Any]:
        """The options under the names that every implementation takes."""
        return {
            "lr": self.cfg.lr[0],
            "betas": read_betas(self.cfg.adam_betas, "--adam-betas"),
            "eps": read_non_negative(self.cfg.adam_eps, "--adam-eps"),
            "weight_decay": read_non_negative(self.cfg.weight_decay, "--weight-decay"),
            "bias_correction": self.cfg.adam_bias_correction,
        }
