"""`--compile`: torch.compile's modes, and whether this machine can run them."""

import logging
from typing import Callable, Optional

import torch
from torch.utils._triton import has_triton

try:
    from torch._inductor.cpp_builder import get_cpp_compiler
except ImportError:  # torch 2.4
    from torch._inductor.cpp_builder import _get_cpp_compiler as get_cpp_compiler

logger = logging.getLogger(__name__)

COMPILE_MODES = ("none", "default", "reduce-overhead", "max-autotune")


def compile_obstacle(mode: str, device: torch.device) -> Optional[str]:
    """Why a mode cannot be used on a device; None if it can."""
    if device.type == "cuda":
        return None if has_triton() else "triton, which it needs on a GPU, is not installed"
    if mode == "reduce-overhead":
        return "it records CUDA graphs, and the model is not on a GPU"
    try:
        get_cpp_compiler()
    except RuntimeError as error:
        return f"it needs a C++ compiler ({error})"
    return None


def compile_step(step: Callable, mode: str, device: torch.device) -> Callable:
    """`step` compiled as one graph for static shapes; names of parameters do not change.

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
        logger.warning("--compile was slower than the plain step on every CPU it was measured on")
    return torch.compile(step, mode=mode, fullgraph=True, dynamic=False)
