"""`--task electra`: a data-bin of fairseq-preprocess in, batches with picked positions out.

Data, blocks and dictionary are those of fairseq's `masked_lm`; only what is picked differs.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List

import torch
from fairseq import utils
from fairseq.data import data_utils
from fairseq.dataclass import FairseqDataclass
from fairseq.distributed import utils as distributed_utils
from fairseq.logging import metrics
from fairseq.tasks import register_task
from fairseq.tasks.language_modeling import SAMPLE_BREAK_MODE_CHOICES, SHORTEN_METHOD_CHOICES
from fairseq.tasks.masked_lm import MaskedLMTask
from omegaconf import II, MISSING

from fairseq_electra.criterions.electra import HELD_OUT_SUMS, ElectraCriterion
from fairseq_electra.criterions.electric import ElectricCriterion
from fairseq_electra.data.pick_dataset import PickDataset, max_picks
from fairseq_electra.data.same_data import expect_data, note_data
from fairseq_electra.data.sentence_pair_dataset import SentencePairDataset
from fairseq_electra.data.shards import check_dictionaries
from fairseq_electra.models.electra import ElectraModel
from fairseq_electra.models.generator_from import begin_with, take_generator
from fairseq_electra.modules.compiling import choose_lengths
from fairseq_electra.process.state import warn_once

logger = logging.getLogger(__name__)

COLLAPSED_MEAN, BLIND_AUC = 0.9, 0.6  # a mean share above and a context AUC below
COLLAPSED = (
    "the discriminator's features have collapsed: their mean is most of their squared norm "
    f"(feature_mean above {COLLAPSED_MEAN}), and less each token's mean logit the AUC is near a "
    f"guess (disc_auc_context below {BLIND_AUC}). Such a run may learn nothing more. What prevents "
    "it in short trainings of small models: --weight-init local, --adam-bias-correction, a lower "
    "--lr, and without --criterion electric --mlm-updates for the first third (docs/small-runs.md)"
)
PREPARE = "make it with fairseq-electra prepare-data or fairseq-preprocess --only-source"


@dataclass
class ElectraTaskConfig(FairseqDataclass):
    """Options of the task; names and meaning as in `masked_lm` where it has them."""

    data: str = field(
        default=MISSING,
        metadata={"help": "data directories, separated by colons, one an epoch in turn"},
    )
    sample_break_mode: SAMPLE_BREAK_MODE_CHOICES = field(
        default="none",
        metadata={
            "help": 'how lines become blocks: "none" fills every block, "complete" keeps lines '
            'whole, "complete_doc" also ends at blank lines, "eos" takes one line a block'
        },
    )
    tokens_per_sample: int = field(
        default=512, metadata={"help": "most tokens in a block, <s> and </s> counted"}
    )
    sentence_pairs: bool = field(
        default=False,
        metadata={"help": "<s> a </s> b </s> with token types, as the authors' data has them"},
    )
    mask_prob: float = field(default=0.15, metadata={"help": "share of the tokens to pick"})
    mask_with_replacement: bool = field(
        default=False,
        metadata={"help": "draw positions with replacement, as the authors' code does"},
    )
    shorten_method: SHORTEN_METHOD_CHOICES = field(
        default="none", metadata={"help": "shorten lines longer than --tokens-per-sample"}
    )
    shorten_data_split_list: str = field(
        default="", metadata={"help": "splits to shorten, separated by commas (default: all)"}
    )
    # fairseq main keeps its loader's worker processes from epoch to epoch; they would not learn of
    # the new epoch, and every epoch would pick the same positions. fairseq reads this field.
    reuse_dataloader: bool = field(
        default=False, metadata={"help": "keep data workers, and so the picks, for all epochs"}
    )
    seed: int = II("common.seed")


@register_task("electra", dataclass=ElectraTaskConfig)
class ElectraTask(MaskedLMTask):
    """Joint pre-training of generator and discriminator."""

    trains_generator = True  # ElectraModel.build_model asks for it
    has_two_towers = None  # whether the model's generator has, once there is a model
    lengths = None  # that batches are padded to, if the model is compiled; read by load_dataset

    @classmethod
    def setup_task(cls, cfg: ElectraTaskConfig, **kwargs) -> "ElectraTask":
        """Read the dictionary.

        Raises:
            ValueError: if an option has no meaning, or data directories have different words.
            FileNotFoundError: if a data directory has no dict.txt.
        """
        check_options(cfg)
        check_dictionaries(list_shards(cfg.data), PREPARE)
        return super().setup_task(cfg, **kwargs)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.state.add_factory("train_data", dict)

    def build_model(self, cfg, from_checkpoint: bool = False):
        """Build the model.

        Raises:
            ValueError: if blocks would be longer than its positions, or it is not ELECTRA, or
                --generator-from and what belongs to it cannot be.
        """
        positions = getattr(cfg, "max_positions", None)
        if positions is not None and self.cfg.tokens_per_sample > positions:
            raise ValueError(
                f"--tokens-per-sample {self.cfg.tokens_per_sample} is more than the model's "
                f"--max-positions {positions}: lower the first or raise the second"
            )
        if str(getattr(cfg, "compile", "none")) != "none":
            self.lengths = choose_lengths(self.cfg.tokens_per_sample)
        given = take_generator(cfg, from_checkpoint)
        model = super().build_model(cfg, from_checkpoint)
        if not isinstance(model, ElectraModel) or model.generator is None:  # of electra_mlm
            raise ValueError(
                f"--task electra cannot train {type(model).__name__}: give --arch electra_small, "
                "electra_base or electra_large, or the model's own --task, such as masked_lm"
            )
        self.has_two_towers = bool(model.cfg.two_tower_generator)
        if given is not None:
            begin_with(model, given, cfg)
        return model

    def build_criterion(self, cfg, *args, **kwargs):
        """Build the criterion.

        Raises:
            ValueError: if it is not ELECTRA's or Electric's, or the model's generator is not its.
        """
        criterion = super().build_criterion(cfg, *args, **kwargs)
        if not isinstance(criterion, ElectraCriterion):
            raise ValueError(
                f"--task electra has no data for {type(criterion).__name__}: give --criterion "
                "electra, or another criterion's own --task"
            )
        is_electric = isinstance(criterion, ElectricCriterion)
        if is_electric and self.has_two_towers is False:
            raise ValueError(
                "--criterion electric needs --two-tower-generator: its noise is from a generator "
                "that reads no <mask>"
            )
        if self.has_two_towers and not is_electric:
            raise ValueError(
                "--two-tower-generator is for --criterion electric alone: give both or none"
            )
        return criterion

    def load_dataset(self, split: str, epoch: int = 1, combine: bool = False, **kwargs) -> None:
        """Load a split and pick in it.

        The first time also look at the training texts of later epochs.

        Raises:
            FileNotFoundError, ValueError: if the split is missing or empty, or another worker has
                other training data, or several processes of fairseq-validate load it.
        """
        check_one_process(kwargs)
        path = self._split_path(split, epoch)
        check_split(path)
        if split == "train" and split not in self.datasets:
            for shard in list_shards(self.cfg.data):
                check_split(shard / split)
        if self.cfg.sentence_pairs:
            dataset = self._load_sentence_pairs(split, epoch, combine)
        else:
            dataset = self._load_dataset_split(split, epoch, combine)
        if split == "train":
            note_data(self.state.train_data, self._shard_number(epoch), path)
        self.datasets[split] = PickDataset(
            dataset,
            dataset.sizes,
            self.dictionary,
            self.cfg.mask_prob,
            max_picks(self.cfg.mask_prob, self.cfg.tokens_per_sample),
            self.cfg.mask_with_replacement,
            self.cfg.seed,
            self.lengths,
        )

    def _shard_number(self, epoch: int) -> int:
        return (epoch - 1) % len(list_shards(self.cfg.data))

    def _split_path(self, split: str, epoch: int) -> Path:
        return list_shards(self.cfg.data)[self._shard_number(epoch)] / split

    def load_state_dict(self, state_dict: Dict) -> None:
        """Leave out what a checkpoint was trained on: fairseq calls this for other uses of it."""
        super().load_state_dict({**state_dict, "train_data": {}})

    def compare_data(self, saved: Dict) -> None:
        """Warn if the training data is not what a checkpoint was trained on.

        Args:
            saved: this task's state in the checkpoint.
        """
        paths = [shard / "train" for shard in list_shards(self.cfg.data)]
        expect_data(self.state.train_data, saved.get("train_data", {}), paths)

    def _load_sentence_pairs(self, split: str, epoch: int, combine: bool) -> SentencePairDataset:
        lines = data_utils.load_indexed_dataset(
            str(self._split_path(split, epoch)), self.dictionary, combine=combine
        )
        return SentencePairDataset(
            lines, lines.sizes, self.dictionary, self.cfg.tokens_per_sample, self.cfg.seed
        )

    def post_validate(self, model, stats: Dict, agg) -> None:
        """Warn, once, if a validation shows that the discriminator has collapsed.

        And drop what was summed for it: fairseq keeps the sums of all validations in checkpoints.

        Args:
            stats: what fairseq logs of the validation.
        """
        mean, auc = stats.get("feature_mean", 0.0), stats.get("disc_auc_context", 1.0)
        is_first = distributed_utils.get_global_rank() == 0
        if is_first and mean > COLLAPSED_MEAN and auc < BLIND_AUC:
            warn_once(logger, COLLAPSED)
        for name in HELD_OUT_SUMS:
            meter = metrics.get_meter("valid", name)
            if meter is not None:
                meter.reset()

    def begin_epoch(self, epoch: int, model) -> None:
        """Nothing to do; masked_lm's needs a model of fairseq main."""


def list_shards(data: str) -> List[Path]:
    """The data directories that take turns."""
    return [Path(path) for path in utils.split_paths(data)]


def check_options(cfg: ElectraTaskConfig) -> None:
    """Raise ValueError, naming the option, for values that have no meaning."""
    if not 0 < cfg.mask_prob < 1:
        raise ValueError(f"--mask-prob must lie between 0 and 1, not be {cfg.mask_prob:g}")
    if cfg.tokens_per_sample < 8:
        raise ValueError(
            f"--tokens-per-sample {cfg.tokens_per_sample} is too short to pick and to pair: "
            "at least 8, usually 128 or 512"
        )


def check_one_process(kwargs: Dict) -> None:
    """Raise ValueError in one of several processes of fairseq-validate, which says `task_cfg`.

    It would send each batch's metrics to the others, a histogram among them, and has no room for
    one; training sums them.
    """
    several = torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1
    if several and "task_cfg" in kwargs:
        raise ValueError(
            "fairseq-validate cannot put together what several processes measure of --task "
            "electra: give --distributed-world-size 1"
        )


def check_split(path: Path) -> None:
    """Raise unless fairseq-preprocess wrote this split and something is in it."""
    data = path.with_name(path.name + ".bin")
    for part in (data, path.with_name(path.name + ".idx")):
        if not part.is_file():
            raise FileNotFoundError(f"no {part.name} in {path.parent}; {PREPARE}")
    if data.stat().st_size == 0:
        raise ValueError(f"{data} is empty: the text it was made from had no lines; {PREPARE}")
