"""A checkpoint, a folder with one, or the name of a packaged model -> Electra.

The tokenizer and the dictionary are looked for beside the checkpoint, then where it was trained.
"""

from pathlib import Path
from typing import Any, Dict, Optional, Tuple, Union

import torch
from fairseq.models.roberta import RobertaModel
from torch import nn

from fairseq_electra import hub
from fairseq_electra.data.tokenizer import INFO_FILE, Tokenizer, load_tokenizer
from fairseq_electra.hub.electra import Electra
from fairseq_electra.hub.finetuned_model import build, read_state
from fairseq_electra.hub.masked_lm import MaskedLM
from fairseq_electra.hub.model import HubModel
from fairseq_electra.models.electra import ElectraModel
from fairseq_electra.models.electra_config import PRECISIONS
from fairseq_electra.models.electra_mlm import ElectraMaskedLM

CHECKPOINTS = ("checkpoint.pt", "checkpoint_best.pt", "checkpoint_last.pt")  # of a folder
TOKENIZER_PLACES = (".", "input0")  # of a data folder; the second is fairseq's for sentences


def load_electra(
    path: Union[str, Path],
    device: Optional[str] = None,
    precision: str = "float32",
    data: Union[str, Path, None] = None,
) -> Electra:
    """As `hub.load`."""
    return make_electra(*build_model(path, precision, data), device, precision)


def load_scorer(
    path: Union[str, Path],
    device: Optional[str] = None,
    precision: str = "float32",
    data: Union[str, Path, None] = None,
) -> HubModel:
    """As `hub.load`, but of a masked language model a MaskedLM."""
    model, task, folder, checkpoint = build_model(path, precision, data)
    if not isinstance(model, (RobertaModel, ElectraMaskedLM)):
        return make_electra(model, task, folder, checkpoint, device, precision)
    if isinstance(model, ElectraMaskedLM):
        model.cfg.precision = precision
    move(model, device)
    return MaskedLM(model, task, find_tokenizer(folder), checkpoint, precision=precision)


def build_model(
    path: Union[str, Path], precision: str, data: Union[str, Path, None]
) -> Tuple[Any, Any, Path, Path]:
    """Model, task, data folder and file of what `path` means."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, not {precision!r}")
    checkpoint = find_checkpoint(path)
    state = read_state(checkpoint, None)
    folder = find_data(checkpoint, state, data)
    state["cfg"]["task"]["data"] = str(folder)
    return *build(checkpoint, state, folder), folder, checkpoint


def make_electra(
    model,
    task,
    folder: Path,
    checkpoint: Path,
    device: Optional[str] = None,
    precision: str = "float32",
) -> Electra:
    """What `hub.load` returns, of a model that is built already.

    Raises:
        ValueError: if it is no ELECTRA, or there is no such device.
    """
    if not isinstance(model, ElectraModel):
        raise ValueError(f"{checkpoint} is of a {type(model).__name__}, not of an ELECTRA")
    model.cfg.precision = precision
    move(model, device)
    return Electra(model, task, find_tokenizer(folder), checkpoint)


def move(model: nn.Module, device: Optional[str]) -> None:
    """To the device, or to a GPU if there is one.

    Raises:
        ValueError: if it cannot be used.
    """
    try:
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {device!r} cannot be used: {reason}") from None


def find_checkpoint(path: Union[str, Path]) -> Path:
    """The file that `path` means.

    Raises:
        ValueError: if there is none.
    """
    given = Path(path)
    if str(path) in hub.list_models() and not given.exists():
        given = hub.model_path(str(path))
    if given.is_dir():
        found = next((given / name for name in CHECKPOINTS if (given / name).is_file()), None)
        if found is None:
            raise ValueError(f"{given} holds no {', '.join(CHECKPOINTS)}: name a checkpoint")
        return found
    if not given.is_file():
        names = ", ".join(hub.list_models()) or "none"
        raise ValueError(f"{path}: no such checkpoint or folder, nor a packaged model ({names})")
    return given


def find_data(checkpoint: Path, state: Dict[str, Any], data: Union[str, Path, None]) -> Path:
    """The folder with what a model reads text by.

    Raises:
        ValueError: if there is none.
    """
    trained_on = str(state["cfg"]["task"].get("data") or "")
    places = [checkpoint.parent, Path(trained_on)] if data is None else [Path(data)]
    for folder in places:
        if any((folder / place / INFO_FILE).is_file() for place in TOKENIZER_PLACES):
            return folder
    if data is not None:
        raise ValueError(f"{data} holds no tokenizer ({INFO_FILE})")
    raise ValueError(
        f"{checkpoint} was trained on {trained_on or 'data that it does not name'}, where no "
        f"tokenizer is ({INFO_FILE}), nor is one beside it: name the folder, as data=..."
    )


def find_tokenizer(folder: Path) -> Optional[Tokenizer]:
    """The tokenizer of a data folder, if it has one."""
    places = (folder / place for place in TOKENIZER_PLACES)
    found = next((place for place in places if (place / INFO_FILE).is_file()), None)
    return None if found is None else load_tokenizer(found)
