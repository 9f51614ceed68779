"""`--compile`: torch.compile's modes, and whether this machine can run them.

torch's compiler is imported where it is used: that takes longer than all of fairseq.
"""

import functools
import logging
from typing import Callable, Iterable, List, Optional

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from fairseq_electra.process.state import warn_once

logger = logging.getLogger(__name__)

COMPILE_MODES = ("none", "default", "reduce-overhead", "max-autotune")
GRAPH_MODES = ("reduce-overhead", "max-autotune")  # on a GPU they record CUDA graphs
LENGTHS = 4  # that batches are padded to
MOST_SHAPES = 64  # of batches, each compiled for itself: training, validation, with padding, ...


def choose_lengths(tokens_per_sample: int) -> List[int]:
    """The few lengths that batches are padded to, ascending: each is compiled for itself."""
    return [-(-tokens_per_sample * part // LENGTHS) for part in range(1, LENGTHS + 1)]


def compile_obstacle(mode: str, device: torch.device) -> Optional[str]:
    """Why a mode cannot be used on a device; None if it can."""
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        return None if has_triton() else "triton, which it needs on a GPU, is not installed"
    if mode == "reduce-overhead":
        return "it records CUDA graphs, and the model is not on a GPU"
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        get_cpp_compiler()
    except RuntimeError as error:
        return f"it needs a C++ compiler ({error})"
    return None


def compile_step(step: Callable, mode: str, device: torch.device) -> Callable:
    """`step` compiled as one graph for static shapes; names of parameters do not change.

    Once there are more than MOST_SHAPES shapes, new ones are computed by `step` itself.

    Raises:
        ValueError: if the mode cannot be used here, with those that can.
    """
    if mode == "none":
        return step
    obstacle = compile_obstacle(mode, device)
    if obstacle is not None:
        possible = [other for other in COMPILE_MODES[1:] if not compile_obstacle(other, device)]
        raise ValueError(
            f"--compile {mode} cannot be used here: {obstacle}. "
            f"Available: {', '.join(['none', *possible])}"
        )
    if device.type == "cpu":
        slow = "--compile was slower than the plain step on every CPU it was measured on"
        warn_once(logger, slow)  # the model's step and the criterion's are both compiled
    from torch import _dynamo

    names = ("FailOnRecompileLimitHit", "RecompileLimitExceeded")  # the second: torch 2.6
    too_many = tuple(getattr(_dynamo.exc, name) for name in names if hasattr(_dynamo.exc, name))
    compiled = torch.compile(step, mode=mode, fullgraph=True, dynamic=False)
    keeps = device.type == "cuda" and mode in GRAPH_MODES

    @functools.wraps(step)
    def run(*args, **kwargs):
        with _dynamo.config.patch(cache_size_limit=MOST_SHAPES):
            try:
                result = compiled(*args, **kwargs)
            except too_many:
                warn_once(
                    logger,
                    f"--compile: batches have more than {MOST_SHAPES} shapes; those that come "
                    "now are not compiled. --batch-size makes fewer than --max-tokens does",
                )
                return step(*args, **kwargs)
        if keeps and not torch.is_grad_enabled():
            # With no backward pass to come, the next compiled call reuses the graph's memory.
            return tree_map_only(torch.Tensor, torch.clone, result)
        return result

    return run


def keep_gradients(parameters: Iterable[nn.Parameter], mode: str, device: torch.device) -> None:
    """Let gradients outlive the CUDA graph that computed them, where `mode` records one.

    The graph's next replay writes to the same memory, and with --update-freq the sum of gradients
    would lie there.
    """
    if device.type == "cuda" and mode in GRAPH_MODES:
        for parameter in parameters:
            if parameter.requires_grad:
                parameter.register_hook(torch.clone)
