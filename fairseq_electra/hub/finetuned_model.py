"""Load a fine-tuned checkpoint with its task; its steps are for other checkpoints as well.

In: the checkpoint, which task it must be of, and perhaps where its data is now. Out: model in
evaluation mode and task; ValueError, one line, for what the user can mend.
"""

import pickle
from argparse import Namespace
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from fairseq import checkpoint_utils

import fairseq_electra  # noqa: F401 (registers tasks and models)
from fairseq_electra.checkpoints.files import find_damage
from fairseq_electra.checkpoints.safe_loading import RefusedCheckpointError

# What fairseq raises at a configuration that is not its own, or another version's
CONFIG_ERRORS = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    AssertionError,
    ValueError,
    ImportError,
)


def load_finetuned(path: Path, task_name: str, data: Optional[Path]) -> Tuple:
    """Model and task of a checkpoint.

    Args:
        data: the folder that it was fine-tuned on, if that has moved.

    Raises:
        ValueError: if it is no checkpoint of that task, or does not fit its data.
    """
    state = read_state(path, data)
    name = state["cfg"]["task"]["_name"]
    if name != task_name:
        raise ValueError(f"{path} was trained with --task {name}, not {task_name}")
    folder = Path(state["cfg"]["task"]["data"])
    if not folder.is_dir():
        raise ValueError(
            f"{folder}, which {path} was trained on, is not there: name it with --data"
        )
    return build(path, state, folder)


def read_state(path: Path, data: Optional[Path]) -> Dict[str, Any]:
    """A checkpoint of fairseq-train with its configuration, `data` in place of its data directory.

    Raises:
        ValueError: if there is none, it is damaged, or something else.
    """
    if path.is_dir():
        raise ValueError(
            f"{path} is a folder: name a checkpoint, such as {path / 'checkpoint_best.pt'}"
        )
    if not path.is_file():
        raise ValueError(f"{path}: no such checkpoint")
    damage = find_damage(path, parts=["model"])
    if damage is not None:
        raise ValueError(f"{path} is not a whole checkpoint of fairseq-train: {damage}")
    overrides = {} if data is None else {"data": str(data)}
    try:
        state = checkpoint_utils.load_checkpoint_to_cpu(str(path), overrides)
        task = state["cfg"]["task"]
        is_plain = isinstance(task, Namespace)  # of fairseq's tasks that have no dataclass
        name = task._name if is_plain else task["_name"]
    except RefusedCheckpointError:
        raise
    except CONFIG_ERRORS:
        raise ValueError(f"{path} is not a checkpoint of fairseq-train") from None
    if is_plain:
        raise ValueError(f"{path} was trained with --task {name}, which is not for here")
    return state


def build(path: Path, state: Dict[str, Any], folder: Path) -> Tuple:
    """Model in evaluation mode and task of a checkpoint.

    Raises:
        ValueError: if it does not fit its data in `folder`, or this version's model.
    """
    try:
        (model,), _, task = checkpoint_utils.load_model_ensemble_and_task([str(path)], state=state)
    except RefusedCheckpointError:
        raise
    except ValueError as error:
        reason = " ".join(str(error).split())  # omegaconf's have several lines
        raise ValueError(f"{path} with {folder}: {reason}") from None
    except CONFIG_ERRORS as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} does not fit this version's model: {reason}") from None
    return model.eval(), task
