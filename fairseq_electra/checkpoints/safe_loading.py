"""How a checkpoint file is read: nothing in it runs, whoever made it.

In: a file. Out: tensors and plain values, or RefusedCheckpointError, which names the file and what
it asked for. `compat.guard_checkpoints` makes fairseq's own loading do the same.
"""

import argparse
import pickle
import re
import sys
import tarfile
from typing import Any, Dict, Iterator, Optional, Tuple

import numpy as np
import torch
from fairseq.criterions import CRITERION_REGISTRY
from fairseq.models import ARCH_MODEL_REGISTRY, MODEL_REGISTRY
from fairseq.tasks import TASK_REGISTRY

from fairseq_electra.process.state import process_state

# What torch says of a class, in the order in which it is looked for.
CLASS_NAMES = (
    r"GLOBAL (\S+)",
    r"unrecognized function (.+)",
    r"but got (<class .+?>)",
)
# fairseq's own classes that compute no option with eval(), as those for speech and its models for
# translation do. The task `translation` gives --eval-bleu-args and --eval-bleu-detok-args to JSON.
HARMLESS_MODELS = {"fairseq.models.roberta.model.RobertaModel"}
HARMLESS_TASKS = {"masked_lm", "sentence_prediction", "sentence_ranking", "translation"}
HARMLESS_CRITERIONS = HARMLESS_TASKS - {"translation"} | {
    "cross_entropy",
    "label_smoothed_cross_entropy",
}
EVALUATED = "xformers_att_config"  # the one option of HARMLESS_MODELS that is
NUMBERS = {np.dtype(code).str[1:]: np.dtype(code) for code in "?bBhHiIlLqQefd"}
# What `load_file` raises at a file that is damaged or not torch's; KeyError: of what is in it, too.
LOAD_ERRORS = (pickle.UnpicklingError, EOFError, KeyError, OSError, RuntimeError, ValueError)


class RefusedCheckpointError(ValueError):
    """A checkpoint that could run code; it was not loaded."""


class NumberType:
    """Stands for `numpy.dtype` in a checkpoint: a metric's best value may be a numpy number."""

    def __init__(self, code: str, *_flags):
        self.dtype = NUMBERS[code]

    def __setstate__(self, state: Tuple) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


def read_number(kind: NumberType, content: bytes):
    """Stands for numpy's own function, which reads any object: one number of `kind`."""
    return np.frombuffer(content, kind.dtype, count=1)[0]


ALLOWED = [
    argparse.Namespace,
    (NumberType, "numpy.dtype"),
    (read_number, "numpy.core.multiarray.scalar"),
    (read_number, "numpy._core.multiarray.scalar"),  # since numpy 2
]


def load_file(file, map_location="cpu", **options) -> Any:
    """`torch.load`, whatever the environment says, with `weights_only`.

    Args:
        file: a path or an open file.

    Raises:
        RefusedCheckpointError: if it holds anything but tensors, plain values and ALLOWED.
    """
    path = getattr(file, "name", file)
    try:
        return torch.load(file, map_location, weights_only=True, **options)
    except pickle.UnpicklingError as error:
        name = find_class(str(error))
        if name is None:
            raise  # no pickle, or a broken one
    except RuntimeError as error:
        if "Cannot use ``weights_only=True``" not in str(error):
            raise
        name = "TorchScript" if "TorchScript" in str(error) else "torch's .tar format of 2017"
    raise RefusedCheckpointError(
        f"{path} was not loaded, and nothing in it was run: it asks for {name}, and a checkpoint "
        "of fairseq-train has only tensors and plain values. It may have been made to run code: "
        "get the checkpoint again from whoever trained it, as fairseq-train wrote it"
    )


def without_arrays(state: Any) -> Any:
    """A checkpoint whose metrics have lists for numpy's arrays, which `load_file` would refuse.

    `--eval-bleu` of the task `translation` counts in arrays; to a list it adds as well.
    """
    extra = state.get("extra_state") if isinstance(state, dict) else None
    if not isinstance(extra, dict) or "metrics" not in extra:
        return state
    return {**state, "extra_state": {**extra, "metrics": as_lists(extra["metrics"])}}


def as_lists(value: Any) -> Any:
    """The same with every array as a list, at any depth of dicts, lists and tuples."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return type(value)((key, as_lists(part)) for key, part in value.items())
    if type(value) in (list, tuple):
        return type(value)(map(as_lists, value))
    return value


def find_class(message: str) -> Optional[str]:
    """The class or function that torch refused, from its message; None if it was not that."""
    for pattern in CLASS_NAMES:
        found = re.search(pattern, message)
        if found:
            return found.group(1)
    return None


def load_checkpoint(file, map_location="cpu", **options) -> Dict[str, Any]:
    """`load_file` for what fairseq then builds: its options can run nothing either.

    Raises:
        RefusedCheckpointError: also if it names a model, task or criterion of fairseq that was not
            found harmless, or sets an option that fairseq computes with eval().
    """
    state = load_file(file, map_location, **options)
    if isinstance(state, dict):
        reason = find_danger(state)
        if reason:
            raise RefusedCheckpointError(
                f"{getattr(file, 'name', file)} was not loaded: {reason}. fairseq computes options "
                "of some models with Python's eval(), so a checkpoint can run code by its options. "
                "Models of this plugin, fairseq's roberta and the tasks they are trained on are "
                "loaded; for others leave out --user-dir fairseq_electra, if you trust the file"
            )
    return state


def find_danger(state: Dict[str, Any]) -> Optional[str]:
    """Which part of a checkpoint's configuration could run code; None if none could."""
    args, cfg = as_dict(state.get("args")), as_dict(state.get("cfg"))
    for kind, name in list_names(args, cfg):
        if (kind, name) not in process_state.in_training and not is_harmless(kind, name):
            return f"it names the {kind} {name}"
    for key, value in list_options([args, cfg]):
        if EVALUATED in str(key) and value not in (None, ""):
            return f"it sets {key} to {value!r}"
    return None


def list_names(args: Dict, cfg: Dict) -> Iterator[Tuple[str, Any]]:
    """Kind and name of all that fairseq may build, by each way in which it looks for a name."""
    for kind, key in (("model", "arch"), ("task", "task"), ("criterion", "criterion")):
        if args.get(key) is not None:
            yield kind, args[key]
        section = cfg.get(kind)
        if isinstance(section, str):
            yield kind, section
            continue
        section = as_dict(section)
        names = [section[field] for field in ("_name", key) if section.get(field) is not None]
        if kind == "model" and not names:
            names = list(section)[:1]  # a model's options may stand under its name
        for name in names:
            yield kind, name


def is_harmless(kind: str, name: Any) -> bool:
    """Whether a registered class may be built with any options; others are not known at all."""
    if not isinstance(name, str):
        return False
    if kind == "model":
        found = ARCH_MODEL_REGISTRY.get(name) or MODEL_REGISTRY.get(name)
    else:
        found = {"task": TASK_REGISTRY, "criterion": CRITERION_REGISTRY}[kind].get(name)
    if found is None:
        return False
    if found.__module__.split(".")[0] != "fairseq":
        return True  # the user's own code, which a checkpoint cannot bring along
    harmless = {"task": HARMLESS_TASKS, "criterion": HARMLESS_CRITERIONS}
    if kind == "model":
        return f"{found.__module__}.{found.__qualname__}" in HARMLESS_MODELS
    return name in harmless[kind]


def list_options(value: Any) -> Iterator[Tuple[Any, Any]]:
    """Every key with its value, at any depth."""
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from list_options(part)
    elif isinstance(value, (dict, argparse.Namespace)):
        for key, part in as_dict(value).items():
            yield key, part
            yield from list_options(part)


def as_dict(section) -> Dict[str, Any]:
    """A section of a configuration, which may be an argparse.Namespace, as a dict."""
    if isinstance(section, argparse.Namespace):
        return vars(section)
    return section if isinstance(section, dict) else {}


def open_archive(*arguments, **options) -> tarfile.TarFile:
    """`tarfile.open`, for extracting inside the chosen folder only; Python 3.14's default.

    Raises:
        ValueError: if this Python has no such filter yet (3.10 before 3.10.12, 3.11 before 3.11.4).
    """
    if not hasattr(tarfile, "data_filter"):
        raise ValueError(
            f"Python {sys.version.split()[0]} cannot unpack an archive without the risk that it "
            "writes elsewhere: unpack it yourself and give the folder, or use Python 3.11.4"
        )
    archive = tarfile.open(*arguments, **options)  # noqa: SIM115 (the caller closes it)
    archive.extraction_filter = tarfile.data_filter
    return archive
