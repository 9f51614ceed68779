"""`--task electra_tagging`: a folder of prepare-tagging in, batches of tagged words out.

The folder holds train.conll and its sisters, dict.txt with the tokenizer, and label/dict.txt.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import List

from fairseq.data import Dictionary
from fairseq.dataclass import FairseqDataclass
from fairseq.tasks import register_task
from omegaconf import MISSING

from fairseq_electra.checkpoints.fitting import hash_names
from fairseq_electra.data.conll import Sentence, read_conll
from fairseq_electra.data.tagging_dataset import TaggingDataset
from fairseq_electra.data.tokenizer import Tokenizer, load_tokenizer
from fairseq_electra.modules.heads import TaggingHead
from fairseq_electra.tasks.finetuning import FinetuningTask, load_dictionary

logger = logging.getLogger(__name__)

PREPARE = "make it with fairseq-electra prepare-tagging"
HEAD = "tagging_head"  # its name in the model and in checkpoints
SHORTEST = 8  # tokens_per_sample


@dataclass
class ElectraTaggingTaskConfig(FairseqDataclass):
    """Options of the task."""

    data: str = field(
        default=MISSING, metadata={"help": "a folder made by fairseq-electra prepare-tagging"}
    )
    tokens_per_sample: int = field(
        default=256,
        metadata={
            "help": "most tokens in an example, <s> and </s> counted; a longer sentence is cut at "
            "words into several examples"
        },
    )


@register_task("electra_tagging", dataclass=ElectraTaggingTaskConfig)
class ElectraTaggingTask(FinetuningTask):
    """Fine-tuning on tagged words: chunks, named entities, parts of speech."""

    def __init__(self, cfg: ElectraTaggingTaskConfig, tokenizer: Tokenizer, dictionary, labels):
        super().__init__(cfg, tokenizer, dictionary)
        self.label_dictionary = labels

    @classmethod
    def setup_task(cls, cfg: ElectraTaggingTaskConfig, **kwargs) -> "ElectraTaggingTask":
        """Read dictionary, tokenizer and labels.

        Raises:
            ValueError: if the folder lacks one of them, or an option has no meaning.
        """
        if cfg.tokens_per_sample < SHORTEST:
            raise ValueError(
                f"--tokens-per-sample {cfg.tokens_per_sample} is too short: at least {SHORTEST}"
            )
        folder = Path(cfg.data)
        dictionary = load_dictionary(folder, PREPARE, "label/dict.txt")
        labels = Dictionary.load(str(folder / "label" / "dict.txt"))
        return cls(cfg, load_tokenizer(folder), dictionary, labels)

    @property
    def labels(self) -> List[str]:
        """The tags in the order of their numbers."""
        return self.label_dictionary.symbols[self.label_dictionary.nspecial :]

    def build_model(self, cfg, from_checkpoint: bool = False):
        """Build the model with a head for the tags.

        Raises:
            ValueError: if examples would be longer than its positions.
        """
        model = super().build_model(cfg, from_checkpoint)
        sizes = (cfg.encoder_embed_dim, len(self.labels), cfg.dropout)
        model.add_head(HEAD, TaggingHead(*sizes, hash_names(self.labels)))
        return model

    def load_dataset(self, split: str, **kwargs) -> None:
        """Read a split and tokenize its words.

        Raises:
            ValueError: if it is missing, or a line does not fit; it names file and line.
        """
        path = Path(self.cfg.data) / f"{split}.conll"
        sentences = read_conll(path)
        self.check_tags(sentences, path)
        self.datasets[split] = self.make_dataset(sentences, str(path))

    def check_tags(self, sentences: List[Sentence], path: Path) -> None:
        """ValueError for a tag that the head does not have."""
        known = set(self.labels)
        for sentence in sentences:
            for tag, line in zip(sentence.tags, sentence.lines, strict=True):
                if tag not in known:
                    raise ValueError(
                        f"{path}, line {line}: tag {tag!r} is none of the {len(known)} in "
                        f"{Path(self.cfg.data) / 'label' / 'dict.txt'}"
                    )

    def make_dataset(self, sentences: List[Sentence], name: str) -> TaggingDataset:
        """Examples of sentences; what was cut is logged."""
        limit = self.cfg.tokens_per_sample
        dataset = TaggingDataset(sentences, self.tokenizer, self.dictionary, self.labels, limit)
        logger.info("%s: %d sentences, %d examples", name, len(sentences), len(dataset))
        counts = dataset.counts
        if counts.cut_sentences:
            logger.info(
                "%s: %d sentences longer than %d tokens, cut at words into %d examples",
                *(name, counts.cut_sentences, limit),
                counts.cut_sentences + len(dataset) - len(sentences),
            )
        if counts.cut_words:
            logger.info("%s: %d words cut to %d tokens", name, counts.cut_words, limit - 2)
        if counts.unknown_words:
            logger.info("%s: %d words without a piece: <unk>", name, counts.unknown_words)
        return dataset
