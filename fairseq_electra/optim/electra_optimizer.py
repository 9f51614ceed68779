"""What electra_adam and electra_lamb share: which parameters decay, clipping, Apex, option checks.

In: fairseq's bare list of parameters. Out: two parameter groups, and a FairseqOptimizer that clips
as the authors do and keeps each group's own settings when a checkpoint is loaded.
"""

import ast
import importlib
import logging
import math
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

import torch
from fairseq.optim import FairseqOptimizer

logger = logging.getLogger(__name__)

NOT_ON_CUDA = "the parameters are not on a CUDA device"
NOT_INSTALLED = "it is not installed"
APEX_ORIGIN = (
    "Apex comes from https://github.com/NVIDIA/apex, built against the installed torch; "
    "the package `apex` on PyPI is another one."
)


def has_weight_decay(param: torch.nn.Parameter) -> bool:
    """Whether weight decay applies to ``param``: to matrices and embedding tables only.

    The authors exclude names with LayerNorm, layer_norm or bias. Those are exactly the parameters
    of one dimension, and fairseq hands an optimizer no names.
    """
    return param.dim() >= 2


def split_by_decay(
    params: Iterable[torch.nn.Parameter], weight_decay: float
) -> List[Dict[str, Any]]:
    """Make the parameter groups: the decayed, then the others with ``weight_decay`` 0.

    A group without parameters is left out, as Apex looks at the first parameter of the first group.
    The order is that of ``params``, so that checkpoints of the same model fit.
    """
    params = list(params)
    decayed = [p for p in params if has_weight_decay(p)]
    others = [p for p in params if not has_weight_decay(p)]
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def clip_by_global_norm(
    params: Iterable[torch.nn.Parameter],
    max_norm: float,
    aggregate_norm_fn: Optional[Callable[[torch.Tensor], torch.Tensor]] = None,
) -> torch.Tensor:
    """Scale all gradients in place so that their global L2 norm is at most ``max_norm``.

    As in google-research/electra the divisor is the norm itself, where torch and fairseq add 1e-6.
    A norm up to ``max_norm`` gives a factor of exactly 1, which changes no bit. ``max_norm`` 0
    clips nothing. ``aggregate_norm_fn`` turns this worker's norm into that of all workers.

    Returns the norm before clipping, (), on the gradients' device; nothing is read back from it.
    """
    params = list(params)
    grads = [p.grad.detach() for p in params if p.grad is not None]
    if not grads:
        return torch.zeros((), device=params[0].device if params else None)
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    if aggregate_norm_fn is not None:
        norm = aggregate_norm_fn(norm)
    if max_norm > 0:
        # Not a clamp of the quotient, which rounds to less than 1 for some norms at the limit.
        torch._foreach_mul_(grads, torch.where(norm > max_norm, max_norm / norm, 1.0))
    return norm


def read_betas(value: Any, option: str) -> Tuple[float, float]:
    """Read two betas from a string such as "(0.9, 0.999)" or from a sequence.

    Raises ValueError naming ``option`` unless they are two numbers in [0, 1).
    """
    try:
        numbers = ast.literal_eval(value) if isinstance(value, str) else value
        beta1, beta2 = (float(number) for number in numbers)
    except (ValueError, TypeError, SyntaxError):
        beta1 = beta2 = float("nan")
    if not (0.0 <= beta1 < 1.0 and 0.0 <= beta2 < 1.0):
        raise ValueError(f'{option} must be two numbers in [0, 1) as "(0.9, 0.999)", got {value!r}')
    return beta1, beta2


def read_non_negative(value: float, option: str) -> float:
    """Return ``value``; ValueError naming ``option`` if it is below 0, infinite or no number."""
    if not 0 <= value < math.inf:
        raise ValueError(f"{option} must be 0 or more and finite, got {value}")
    return value


def apex_obstacle(class_name: str, params: Iterable[torch.nn.Parameter]) -> Optional[str]:
    """Say why ``apex.optimizers.<class_name>`` cannot update ``params``; None if it can.

    Apex is not even imported for parameters on the CPU.
    """
    if not all(p.is_cuda for p in params):
        return NOT_ON_CUDA
    try:
        importlib.import_module("apex")
        getattr(importlib.import_module("apex.optimizers"), class_name)
        importlib.import_module("amp_C")  # Apex's CUDA kernels
    except (ImportError, AttributeError) as error:
        reasons = {
            "apex": NOT_INSTALLED,
            "amp_C": f"it was built without its CUDA extensions ({error})",
        }
        return reasons.get(error.name, f"the installed `apex` is not NVIDIA's ({error})")
    return None


def prefers_apex(class_name: str, params: Iterable[torch.nn.Parameter], option: str) -> bool:
    """Whether ``option auto`` means Apex; a warning if an `apex` is there that cannot be used."""
    obstacle = apex_obstacle(class_name, params)
    if obstacle not in (None, NOT_ON_CUDA, NOT_INSTALLED):
        logger.warning("%s auto takes torch's kernels: %s. %s", option, obstacle, APEX_ORIGIN)
    return obstacle is None


def load_apex_class(
    class_name: str, params: Iterable[torch.nn.Parameter], option: str, way_out: str
) -> type:
    """Return ``apex.optimizers.<class_name>``.

    Raises ValueError with ``option``, the obstacle and ``way_out`` if it cannot update ``params``.
    """
    obstacle = apex_obstacle(class_name, params)
    if obstacle is not None:
        raise ValueError(
            f"{option} needs NVIDIA's Apex, which cannot be used here: {obstacle}. "
            f"{way_out} {APEX_ORIGIN}"
        )
    return getattr(importlib.import_module("apex.optimizers"), class_name)


class ElectraOptimizer(FairseqOptimizer):
    """A FairseqOptimizer over the groups of ``layerwise.make_groups``, clipping as the authors do.

    A group's rate is the run's times its ``lr_scale``, where it has one.
    """

    def get_lr(self) -> float:
        """The run's rate, which is that of heads."""
        group = self.param_groups[0]
        return group["lr"] / group.get("lr_scale", 1.0)

    def set_lr(self, lr: float) -> None:
        """Give each group its share of the run's rate."""
        for group in self.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)

    @property
    def supports_flat_params(self) -> bool:
        """No: in one flat tensor the biases cannot be told apart. fairseq says what to set."""
        return False

    def clip_grad_norm(
        self,
        max_norm: float,
        aggregate_norm_fn: Optional[Callable[[torch.Tensor], torch.Tensor]] = None,
    ) -> torch.Tensor:
        """Clip all gradients, see ``clip_by_global_norm``.

        Under --fp16 and --bf16 fairseq asks here for the norm alone and clips by its own rule.
        """
        return clip_by_global_norm(self.params, max_norm, aggregate_norm_fn)

    def load_state_dict(
        self, state_dict: Dict[str, Any], optimizer_overrides: Optional[Dict[str, Any]] = None
    ) -> None:
        """Load as fairseq does, but keep ``weight_decay`` 0 where there is none, and ``lr_scale``.

        fairseq writes --optimizer-overrides into every group. torch replaces a group by the saved
        one, which lacks what Apex's class reads there (``grad_averaging``) if torch's wrote it.

        Raises:
            ValueError: if the state was saved with other parameter groups.
        """
        saved = len(state_dict["param_groups"])
        if saved != len(self.param_groups):
            raise ValueError(
                f"the checkpoint's optimizer has {saved} parameter groups, this run's has "
                f"{len(self.param_groups)}: --layerwise-lr-decay was on in one of them alone. "
                "Resume with the same options, or give --reset-optimizer"
            )
        for theirs, own in zip(state_dict["param_groups"], self.param_groups, strict=True):
            if len(theirs["params"]) != len(own["params"]):
                raise ValueError(
                    f"the checkpoint's optimizer has {len(theirs['params'])} parameters where this "
                    f"run's has {len(own['params'])}: a head was added or dropped (--mlm-updates, "
                    "--clm-weight). Resume with the same options, or give --reset-optimizer"
                )
        before = [dict(group) for group in self.param_groups]
        super().load_state_dict(state_dict, optimizer_overrides)
        for group, former in zip(self.param_groups, before, strict=True):
            group.update({key: former[key] for key in former.keys() - group.keys()})
            if not has_weight_decay(group["params"][0]):
                group["weight_decay"] = 0.0
            if "lr_scale" in group:
                group["lr_scale"] = former.get("lr_scale", 1.0)
