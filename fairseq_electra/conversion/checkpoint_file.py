"""fairseq's checkpoints: what a conversion needs of one, and a new one with no updates made yet.

Only tensors and plain values are read; a pickle that wants to run anything is refused
(safe_loading.py). Tensors are mapped from the file, so an optimizer's state costs nothing.
"""

import argparse
import pickle
import warnings
import zipfile
from dataclasses import fields
from pathlib import Path
from typing import Any, Dict, NamedTuple

import torch
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf
from torch import Tensor

from fairseq_electra.models.electra_config import ElectraConfig
from fairseq_electra.safe_loading import load_file

UNREADABLE = (pickle.UnpicklingError, RuntimeError, OSError, EOFError)
UNREADABLE += (KeyError, TypeError, AttributeError)  # of what is no dict of fairseq's
# Options of how a model computes, not of what it is.
MEANS = ("_name", "attention", "precision", "compile", "checkpoint_activations")
SIZES = [field.name for field in fields(ElectraConfig) if field.name not in MEANS]


class Checkpoint(NamedTuple):
    """The part of a checkpoint that a conversion needs."""

    model: Dict[str, Any]  # options of the model
    task: Dict[str, Any]  # options of the task
    tensors: Dict[str, Tensor]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of fairseq-train; ValueError, naming the file, if it is not one."""
    if not path.is_file():
        raise ValueError(f"{path}: no such checkpoint")
    try:
        return find_parts(load_file(path, mmap=zipfile.is_zipfile(path)))
    except UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is not a whole checkpoint of fairseq-train ({reason})") from None


def find_parts(state: Dict[str, Any]) -> Checkpoint:
    """The parts, also of checkpoints from before fairseq 0.10, which have `args` alone."""
    if state.get("cfg") is None:
        everything = as_dict(state["args"])
        return Checkpoint(everything, everything, state["model"])
    cfg = as_dict(state["cfg"])
    return Checkpoint(as_dict(cfg["model"]), as_dict(cfg["task"]), state["model"])


def as_dict(section) -> Dict[str, Any]:
    """A section of a configuration, which may be an argparse.Namespace, as a dict."""
    return vars(section) if isinstance(section, argparse.Namespace) else dict(section)


def read_sizes(checkpoint: Checkpoint, path: Path) -> ElectraConfig:
    """The options of an ElectraModel; ValueError if it is another model."""
    name = checkpoint.model.get("_name") or checkpoint.model.get("arch")
    if not str(name).startswith("electra"):
        raise ValueError(f"{path} holds a model {name}, not electra")
    model = checkpoint.model
    return ElectraConfig(**{size: model[size] for size in SIZES if model.get(size) is not None})


def make_cfg(cfg: ElectraConfig, data: Path) -> Dict[str, Any]:
    """Every option of fairseq-train for pre-training this model, at its default otherwise."""
    command = [str(data), "--task", "electra", "--criterion", "electra", "--arch", "electra"]
    command += ["--optimizer", "electra_adam", "--lr-scheduler", "electra_decay"]
    # without updates to make, the schedule cannot be set up
    command += ["--max-update", "1", "--total-num-update", "1"]
    command += ["--tokens-per-sample", str(min(512, cfg.max_positions))]
    for size in SIZES:
        option, value = "--" + size.replace("_", "-"), getattr(cfg, size)
        if isinstance(value, bool):
            command += [option] if value else []
        elif value is not None:
            command += [option, repr(value)]
    args = options.parse_args_and_arch(options.get_training_parser(), command)
    with warnings.catch_warnings():  # hydra's, about how fairseq calls it
        warnings.simplefilter("ignore")
        cfg = convert_namespace_to_omegaconf(args)
    return OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)


def write_checkpoint(
    path: Path, cfg: ElectraConfig, tensors: Dict[str, Tensor], data: Path
) -> None:
    """Write a checkpoint as fairseq-train does before its first update.

    Args:
        data: the data directory it names.
    """
    history = {
        "criterion_name": "ElectraCriterion",
        "optimizer_name": "ElectraAdam",
        "lr_scheduler_state": {},
        "num_updates": 0,
    }
    state = {
        "args": None,
        "cfg": make_cfg(cfg, data),
        "model": tensors,
        "criterion": None,
        "optimizer_history": [history],
        "task_state": {},
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}},
        "last_optimizer_state": None,
    }
    torch.save(state, path)
