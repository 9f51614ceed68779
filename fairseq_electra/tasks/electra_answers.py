"""`--task electra_answers`: a folder of fairseq-electra prepare-squad in, batches of windows out.

The folder holds train.json, valid.json and perhaps test.json of SQuAD, dict.txt and the tokenizer.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from fairseq.tasks import register_task
from omegaconf import MISSING

from fairseq_electra.answers.decode import HEAD
from fairseq_electra.data.answer_dataset import SPECIALS, AnswerDataset
from fairseq_electra.data.answer_windows import WindowSizes, describe_skipped
from fairseq_electra.data.squad import Squad, read_squad
from fairseq_electra.data.tokenizer import load_tokenizer
from fairseq_electra.modules.answer_head import ANSWER_HEADS
from fairseq_electra.tasks.finetuning import FinetuningTask, load_dictionary

logger = logging.getLogger(__name__)

PREPARE = "make it with fairseq-electra prepare-squad"


@dataclass
class ElectraAnswersTaskConfig(FairseqDataclass):
    """Options of the task; the defaults are the authors'."""

    data: str = field(
        default=MISSING, metadata={"help": "a folder made by fairseq-electra prepare-squad"}
    )
    tokens_per_sample: int = field(
        default=512,
        metadata={"help": "most tokens in a window, with its question and three specials"},
    )
    doc_stride: int = field(
        default=128, metadata={"help": "tokens from a window's start to the next's"}
    )
    max_query_length: int = field(
        default=64, metadata={"help": "most tokens of a question, the rest is cut"}
    )
    answer_head: ChoiceEnum(list(ANSWER_HEADS)) = field(
        default="joint",
        metadata={
            "help": "joint: the authors', the end depends on the start, with a classifier of "
            "answerability; linear: BERT's, the same as Hugging Face's"
        },
    )


@register_task("electra_answers", dataclass=ElectraAnswersTaskConfig)
class ElectraAnswersTask(FinetuningTask):
    """Fine-tuning on questions whose answers are spans of a passage."""

    @classmethod
    def setup_task(cls, cfg: ElectraAnswersTaskConfig, **kwargs) -> "ElectraAnswersTask":
        """Read dictionary and tokenizer.

        Raises:
            ValueError: if the folder lacks one of them, or an option has no meaning.
        """
        check_options(cfg)
        folder = Path(cfg.data)
        dictionary = load_dictionary(folder, PREPARE)
        return cls(cfg, load_tokenizer(folder), dictionary)

    def build_model(self, cfg, from_checkpoint: bool = False):
        """Build the model with a head for answers.

        Raises:
            ValueError: if windows would be longer than its positions.
        """
        model = super().build_model(cfg, from_checkpoint)
        model.add_head(HEAD, ANSWER_HEADS[str(self.cfg.answer_head)](cfg.encoder_embed_dim))
        return model

    def load_dataset(self, split: str, **kwargs) -> None:
        """Read a split, tokenize it and find the answers.

        Raises:
            ValueError: if it is missing, not SQuAD's, or cannot be learnt from; it names the file.
        """
        path = Path(self.cfg.data) / f"{split}.json"
        if not path.is_file():
            raise ValueError(f"no {path.name} in {path.parent}; {PREPARE}")
        self.datasets[split] = self.make_dataset(read_squad(path), path, to_learn=True)

    def make_dataset(self, squad: Squad, path: Path, to_learn: bool) -> AnswerDataset:
        """Windows of a file's questions; what was left out and cut is logged.

        Raises:
            ValueError: if most cannot be learnt from and that is the purpose; it names the file.
        """
        sizes = WindowSizes(
            self.cfg.tokens_per_sample, self.cfg.doc_stride, self.cfg.max_query_length
        )
        try:
            dataset = AnswerDataset(squad, self.tokenizer, self.dictionary, sizes, to_learn)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        logger.info("%s: %s", path, dataset.describe())
        if dataset.skipped:
            logger.warning("%s: left out %s", path, describe_skipped(dataset.skipped))
        return dataset


def check_options(cfg: ElectraAnswersTaskConfig) -> None:
    """Raise ValueError, naming the option, for values that have no meaning."""
    for name in ("doc_stride", "max_query_length"):
        if getattr(cfg, name) < 1:
            option = "--" + name.replace("_", "-")
            raise ValueError(f"{option} must be at least 1, not {getattr(cfg, name)}")
    least = cfg.max_query_length + SPECIALS + 1
    if cfg.tokens_per_sample < least:
        raise ValueError(
            f"--tokens-per-sample {cfg.tokens_per_sample} leaves no room for a passage beside "
            f"--max-query-length {cfg.max_query_length}: at least {least}"
        )
