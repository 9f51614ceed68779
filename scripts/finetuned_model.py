"""Load a fine-tuned checkpoint with its task, as fairseq-train built them.

In: the checkpoint, which task it must be of, and perhaps where its data is now. Out: model in
evaluation mode and task; ValueError, one line, for what the user can mend.
"""

import pickle
from pathlib import Path
from typing import Optional, Tuple

from fairseq import checkpoint_utils

import fairseq_electra  # noqa: F401 (registers tasks and models)

UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    KeyError,
    TypeError,
    AttributeError,
)


def load_finetuned(path: Path, task_name: str, data: Optional[Path]) -> Tuple:
    """Model and task of a checkpoint.

    Args:
        data: the folder that it was fine-tuned on, if that has moved.

    Raises:
        ValueError: if it is no checkpoint of that task, or does not fit its data.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such checkpoint")
    overrides = {} if data is None else {"data": str(data)}
    try:
        state = checkpoint_utils.load_checkpoint_to_cpu(str(path), overrides)
        name = state["cfg"]["task"]["_name"]
    except UNREADABLE:
        raise ValueError(f"{path} is not a checkpoint of fairseq-train") from None
    if name != task_name:
        raise ValueError(f"{path} was trained with --task {name}, not {task_name}")
    folder = Path(state["cfg"]["task"]["data"])
    if not folder.is_dir():
        raise ValueError(
            f"{folder}, which {path} was trained on, is not there: name it with --data"
        )
    (model,), _, task = checkpoint_utils.load_model_ensemble_and_task([str(path)], state=state)
    model.eval()
    return model, task
