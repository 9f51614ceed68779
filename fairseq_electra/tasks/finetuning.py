"""What the tasks that fine-tune on a folder of their own share: its dictionary, lengths, checks."""

from pathlib import Path

from fairseq.data import Dictionary
from fairseq.tasks import FairseqTask

from fairseq_electra.data.tokenizer import Tokenizer


def load_dictionary(folder: Path, prepare: str, *others: str) -> Dictionary:
    """The folder's dict.txt with `<mask>` added, as in pre-training.

    Args:
        prepare: how such a folder is made, for errors.
        others: files that must be there too.

    Raises:
        ValueError: if a file is missing.
    """
    for name in ("dict.txt", *others):
        if not (folder / name).is_file():
            raise ValueError(f"no {name} in {folder}; {prepare}")
    dictionary = Dictionary.load(str(folder / "dict.txt"))
    dictionary.add_symbol("<mask>")
    return dictionary


class FinetuningTask(FairseqTask):
    """A task over text; its examples have at most `cfg.tokens_per_sample` tokens."""

    def __init__(self, cfg, tokenizer: Tokenizer, dictionary: Dictionary):
        super().__init__(cfg)
        self.tokenizer = tokenizer
        self.dictionary = dictionary

    def build_model(self, cfg, from_checkpoint: bool = False):
        """Build the model without a head.

        Raises:
            ValueError: if examples would be longer than its positions.
        """
        if self.cfg.tokens_per_sample > cfg.max_positions:
            raise ValueError(
                f"--tokens-per-sample {self.cfg.tokens_per_sample} is more than the model's "
                f"--max-positions {cfg.max_positions}: lower the first"
            )
        return super().build_model(cfg, from_checkpoint)

    def max_positions(self) -> int:
        """Longest example in tokens."""
        return self.cfg.tokens_per_sample

    @property
    def source_dictionary(self) -> Dictionary:
        return self.dictionary

    @property
    def target_dictionary(self) -> None:
        """None: targets are numbers, not words."""
        return None
