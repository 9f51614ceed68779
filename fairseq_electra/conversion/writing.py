"""Files that a conversion writes: what could not be written is named, as on a full disk."""

from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator

import torch
from torch import Tensor

from fairseq_electra.checkpoints.files import RecordingFile


@contextmanager
def name_failure(path: Path) -> Iterator[None]:
    """Put `path` into an OSError of the block; one about a write has no name otherwise."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{path} could not be written: {error.strerror or error}") from error


def write_torch(content, path: Path) -> None:
    """torch.save; OSError with the file's name and the reason, for which torch has other words."""
    with name_failure(path), path.open("wb") as file:
        recording = RecordingFile(file)
        try:
            torch.save(content, recording)
        except RuntimeError:
            if recording.failure is None:
                raise
            raise recording.failure from None


def write_safetensors(tensors: Dict[str, Tensor], path: Path) -> None:
    """The tensors as transformers reads them; OSError with the file's name.

    Raises:
        ValueError: if safetensors is not installed.
    """
    try:
        from safetensors import SafetensorError
        from safetensors.torch import save_file
    except ImportError:
        raise ValueError("safetensors is not installed: pip install '.[hf]'") from None
    with name_failure(path):
        try:
            save_file(tensors, path, metadata={"format": "pt"})
        except SafetensorError as error:
            raise OSError(str(error)) from error
