"""fairseq's checkpoints: what a conversion needs of one, and a new one with no updates made yet.

Only tensors and plain values are read; a pickle that wants to run anything is refused
(safe_loading.py). Tensors are mapped from the file, so an optimizer's state costs nothing.
"""

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional

import torch
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf
from torch import Tensor

from fairseq_electra.checkpoints.files import find_damage
from fairseq_electra.checkpoints.safe_loading import as_dict, load_file
from fairseq_electra.conversion.writing import write_torch
from fairseq_electra.models.electra_config import (
    ElectraConfig,
    check_config,
    discriminator_encoder_size,
    generator_encoder_size,
)

# Options of how a model computes, not of what it is.
NOT_SIZES = ("_name", "attention", "precision", "compile", "checkpoint_activations")
NOT_SIZES += ("weight_init", "mlm_updates", "clm_weight")  # of what is there, of a training
SIZES = [field.name for field in fields(ElectraConfig) if field.name not in NOT_SIZES]


class Checkpoint(NamedTuple):
    """The part of a checkpoint that a conversion needs."""

    model: Dict[str, Any]  # options of the model
    task: Dict[str, Any]  # options of the task
    tensors: Dict[str, Tensor]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint of fairseq-train; ValueError, naming the file, if it is not one."""
    if not path.is_file():
        raise ValueError(f"{path}: no such checkpoint")
    damage = find_damage(path, parts=["model"])
    if damage is not None:
        raise ValueError(f"{path} is not a whole checkpoint of fairseq-train: {damage}")
    try:
        checkpoint = find_parts(load_file(path, mmap=zipfile.is_zipfile(path)))
    except pickle.UnpicklingError:  # a file that is whole, of another protocol than fairseq-train's
        raise ValueError(
            f"{path} is not a checkpoint of fairseq-train: torch cannot read it"
        ) from None
    sections = all(isinstance(section, Mapping) for section in checkpoint)
    if not sections or not checkpoint.model:
        raise ValueError(f"{path} is not a whole checkpoint of fairseq-train: it names no model")
    if not all(map(torch.is_tensor, checkpoint.tensors.values())):
        raise ValueError(f"{path} is not a whole checkpoint of fairseq-train: not only tensors")
    return checkpoint


def find_parts(state: Dict[str, Any]) -> Checkpoint:
    """The parts, also of checkpoints from before fairseq 0.10, which have `args` alone."""
    if state.get("cfg") is None:
        everything = as_dict(state.get("args"))
        return Checkpoint(everything, everything, state["model"])
    cfg = as_dict(state["cfg"])
    return Checkpoint(as_dict(cfg.get("model")), as_dict(cfg.get("task")), state["model"])


def read_sizes(checkpoint: Checkpoint, path: Path) -> ElectraConfig:
    """The options of an ElectraModel; ValueError if it is another model."""
    name = checkpoint.model.get("_name") or checkpoint.model.get("arch")
    if not str(name).startswith("electra"):
        raise ValueError(f"{path} holds a model {name}, not electra")
    model = checkpoint.model
    cfg = ElectraConfig(**{size: model[size] for size in SIZES if model.get(size) is not None})
    check_sizes(cfg, path)
    return cfg


def check_sizes(cfg: ElectraConfig, path: Path) -> None:
    """ValueError, naming the file that they are from, for sizes that no model can have."""
    try:
        check_config(cfg)
        discriminator_encoder_size(cfg)
        generator_encoder_size(cfg)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def find_data(checkpoint: Checkpoint, path: Path, data: Optional[Path]) -> Path:
    """The folder with the dictionary: `data`, the checkpoint's own, or the first of its --data."""
    if data is not None:
        return data
    if (path.parent / "dict.txt").is_file():  # as `fairseq-electra pack` leaves it
        return path.parent
    named = checkpoint.task.get("data")
    if not isinstance(named, str):
        raise ValueError(f"{path} names no data directory: name it with --data")
    return Path(named.split(":")[0])


def make_cfg(cfg: ElectraConfig, data: Path, **task) -> Dict[str, Any]:
    """Every option of fairseq-train for pre-training this model, at its default otherwise.

    `task`: options of --task electra that are not, such as `tokens_per_sample`.
    """
    criterion = "electric" if cfg.two_tower_generator else "electra"
    command = [str(data), "--task", "electra", "--criterion", criterion, "--arch", "electra"]
    command += ["--optimizer", "electra_adam", "--lr-scheduler", "electra_decay"]
    # without updates to make, the schedule cannot be set up
    command += ["--max-update", "1", "--total-num-update", "1"]
    for name, value in {"tokens_per_sample": min(512, cfg.max_positions), **task}.items():
        command += ["--" + name.replace("_", "-"), str(value)]
    for size in SIZES:
        option, value = "--" + size.replace("_", "-"), getattr(cfg, size)
        if isinstance(value, bool):
            command += [option] if value else []
        elif value is not None:
            command += [option, value if isinstance(value, str) else repr(value)]
    args = options.parse_args_and_arch(options.get_training_parser(), command)
    with warnings.catch_warnings():  # hydra's, about how fairseq calls it
        warnings.simplefilter("ignore")
        cfg = convert_namespace_to_omegaconf(args)
    return OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)


def write_checkpoint(
    path: Path, cfg: ElectraConfig, tensors: Dict[str, Tensor], data: Path, **task
) -> None:
    """Write a checkpoint as fairseq-train does before its first update.

    Args:
        data: the data directory it names.
        task: options of --task electra that are not at their default.
    """
    history = {
        "criterion_name": ("ElectricCriterion" if cfg.two_tower_generator else "ElectraCriterion"),
        "optimizer_name": "ElectraAdam",
        "lr_scheduler_state": {},
        "num_updates": 0,
    }
    state = {
        "args": None,
        "cfg": make_cfg(cfg, data, **task),
        "model": tensors,
        "criterion": None,
        "optimizer_history": [history],
        "task_state": {},
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}},
        "last_optimizer_state": None,
    }
    write_torch(state, path)
