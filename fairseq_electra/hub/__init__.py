"""A trained checkpoint in Python: `from fairseq_electra import hub; electra = hub.load(PATH)`.

loading.py         a checkpoint, a folder, a packaged name -> Electra
electra.py         Electra: what can be asked, each answered by one of:
  texts.py           text <-> tokens, windows of long texts, batches of like length
  words.py           pieces -> words       masks.py           `<mask>` in a text, what fills it
  replaced.py        which words do not belong; what fits in their place; masks filled
  scores.py          one number for a sentence; pairs; zero-shot labels
  embeddings.py      sentences as vectors, their similarity
  predictions.py     what fine-tuned heads say: labels, tags, answers
  generation.py      text from a prompt        summaries.py    sentences that stand for a text
  explanations.py    why a head says so, as numbers and as a page; explained_logits.py: what is
                     explained, explanation_page.py: how it is shown
model.py           what Electra and MaskedLM have in common
minimal_pairs.py   which of two sentences is right (BLiMP), also of a RoBERTa: masked_lm.py
packaged.py        where a packaged model lies
commands.py        the same from the shell, line by line
finetuned_model.py and predict_*.py: files of a task in, files out
predict.py, tag.py, answer.py: the commands of predict_*.py
"""

from pathlib import Path
from typing import TYPE_CHECKING, List, Optional, Union

if TYPE_CHECKING:
    from fairseq_electra.hub.electra import Electra

PRETRAINED = Path(__file__).resolve().parents[1] / "pretrained"
SCORES = ("discriminator", "generator", "combined", "electric")  # formulas: scores.py


def load(
    path: Union[str, Path],
    device: Optional[str] = None,
    precision: str = "float32",
    data: Union[str, Path, None] = None,
) -> "Electra":
    """Load a model for use; nothing in its file is run.

    Args:
        path: a checkpoint, a folder that holds one, or a name of `list_models()`.
        device: such as "cpu" or "cuda:1" (default: a GPU if there is one).
        precision: "float32", or "bf16": matrix products in bfloat16.
        data: folder with the tokenizer and dict.txt, or of the task that it was fine-tuned on, if
            they are neither beside the checkpoint nor where it was trained.

    Raises:
        ValueError: if there is no such model, it is damaged or no ELECTRA, or its data is missing.
    """
    from fairseq_electra.hub.loading import load_electra

    return load_electra(path, device, precision, data)


def list_models() -> List[str]:
    """Names of the models that the package has."""
    return sorted(file.parent.name for file in PRETRAINED.glob("*/checkpoint.pt"))


def model_path(name: str) -> Path:
    """The folder of a packaged model: checkpoint.pt, dict.txt, its tokenizer, its card.

    Raises:
        ValueError: if the package has no such model.
    """
    if name not in list_models():
        known = ", ".join(list_models()) or "none"
        raise ValueError(f"no model {name}: the package has {known}")
    return PRETRAINED / name
