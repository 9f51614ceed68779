"""Layer-wise learning-rate decay: the deeper a parameter lies, the smaller its share of the rate.

In: a model's embeddings and layers, marked with their depth when the model is built. Out: parameter
groups by depth and weight decay, each with its ``lr_scale``.
"""

from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Optional, Sequence

from fairseq.dataclass import FairseqDataclass
from torch import nn

from fairseq_electra.optim.electra_optimizer import split_by_decay


@dataclass
class LayerwiseConfig(FairseqDataclass):
    """Options that electra_adam and electra_lamb share."""

    layerwise_lr_decay: float = field(
        default=1.0,
        metadata={
            "help": "factor of the rate from each layer to the one below it, for fine-tuning; "
            "heads have the whole rate, 1: no decay"
        },
    )
    layerwise_lr_off_by_one: bool = field(
        default=False,
        metadata={
            "help": "as the authors' code: the top layer gets the factor squared, each below it "
            "one more"
        },
    )


def mark_depths(embeddings: Iterable[Optional[nn.Module]], layers: Sequence[nn.Module]) -> None:
    """Note the depth of every parameter: 1 for the top layer, len(layers) + 1 for embeddings.

    It is kept in ``param_group``, the only attribute that fairseq's float32 copies (--fp16, --bf16)
    take over in every version. What is not marked, such as a head, has depth 0.
    """
    depths = [(module, len(layers) + 1) for module in embeddings if module is not None]
    depths += [(layer, len(layers) - index) for index, layer in enumerate(layers)]
    for module, depth in depths:
        for param in module.parameters():
            param.param_group = depth


def depth_of(param: nn.Parameter) -> int:
    """Layers from a head down to ``param``; 0 if it is not marked (or by another model's name)."""
    depth = getattr(param, "param_group", 0)
    return depth if isinstance(depth, int) else 0


def exponent_at(depth: int, off_by_one: bool) -> int:
    """Exponent of the decay: the depth itself.

    ``off_by_one`` is what google-research/electra computes (model/optimization.py): one more for
    all but heads. Its authors call it a slip that did not matter.
    """
    return depth + 1 if off_by_one and depth > 0 else depth


def make_groups(
    params: Iterable[nn.Parameter], weight_decay: float, cfg: LayerwiseConfig
) -> List[Dict[str, Any]]:
    """Make the parameter groups: those of ``split_by_decay`` for each depth, heads first.

    Without layer-wise decay there are two, without ``lr_scale``, as in checkpoints of old.

    Raises:
        ValueError: for a decay that is not in (0, 1], or a model that marks no depths.
    """
    decay = cfg.layerwise_lr_decay
    if not 0 < decay <= 1:
        raise ValueError(f"--layerwise-lr-decay must be above 0 and at most 1, got {decay}")
    params = list(params)
    if decay == 1:
        return split_by_decay(params, weight_decay)
    depths = sorted({depth_of(param) for param in params})
    if depths == [0]:
        raise ValueError(
            f"--layerwise-lr-decay {decay:g} needs a model that says how deep its layers lie: "
            "--arch electra_small and the other sizes do, and --arch roberta_layerwise"
        )
    groups = []
    for depth in depths:
        scale = decay ** exponent_at(depth, cfg.layerwise_lr_off_by_one)
        same_depth = [param for param in params if depth_of(param) == depth]
        groups += [{**g, "lr_scale": scale} for g in split_by_decay(same_depth, weight_decay)]
    return groups
