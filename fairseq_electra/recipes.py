"""The settings of each size as options of fairseq-train: the paper's (table 6), and `tiny`'s.

In: a size, a model, the devices. Out: options as a shell reads them, a line for each group.
`fairseq-electra recipe` prints the command that they make, scripts/pretrain*.sh and finetune*.sh
run it, models/electra.py makes its archs of SIZES.
"""

from typing import Dict, List, NamedTuple, Optional, Sequence

BUDGETS = ("minutes", "hour", "night")
MODELS = ("electra", "electra_mlm", "roberta")
MOST_LOADERS = 8  # processes that load data, of a device; one makes about 1 M tokens a second
MOST_MLM_UPDATES = 2000
MEMORY_SHARE = 0.7  # of a GPU, for what a step keeps: fairseq skips batches that do not fit
FINETUNE_BATCH = 32
FINETUNE_EPOCHS = {"sentences": 3, "tags": 3, "answers": 2}
FINETUNE_TASKS = {
    "sentences": "sentence_prediction",  # fairseq's stock task
    "tags": "electra_tagging",
    "answers": "electra_answers",
}


class Size(NamedTuple):
    """Sizes of both networks, named as fairseq-train's options are."""

    encoder_layers: int
    encoder_embed_dim: int
    encoder_ffn_embed_dim: int
    encoder_attention_heads: int
    embedding_size: int
    generator_size: float


SIZES = {
    "tiny": Size(4, 128, 512, 2, 128, 0.5),  # not the paper's; the recipe's generator is half of it
    "small": Size(12, 256, 1024, 4, 128, 1 / 4),
    "base": Size(12, 768, 3072, 12, 768, 1 / 3),
    "large": Size(24, 1024, 4096, 16, 1024, 1 / 4),
}


class Recipe(NamedTuple):
    """How a size is trained.

    Attributes:
        tokens, batch: of a sequence, and sequences of an update.
        sequence_mb: what a step keeps of a sequence for its backward pass, in bf16 on the CPU; for
            large base's, by its sizes (docs/performance.md).
        mlm_share: one in so many of ELECTRA's updates is of its first stage; 0: none.
        encoder, electra: further options of pre-training, of every model on ELECTRA's encoder and
            of ELECTRA alone.
    """

    tokens: int
    batch: int
    lr: float
    updates: int
    finetune_lr: float
    sequence_mb: int
    warmup: int = 10_000
    mask_prob: float = 0.15
    finetune_layer_decay: float = 0.8
    mlm_share: int = 0
    encoder: str = ""
    electra: str = ""


PAPER = {
    "small": Recipe(
        tokens=128, batch=128, lr=5e-4, updates=1_000_000, finetune_lr=3e-4, sequence_mb=29
    ),
    "base": Recipe(
        tokens=512, batch=256, lr=2e-4, updates=766_000, finetune_lr=1e-4, sequence_mb=900
    ),
    "large": Recipe(
        tokens=512,
        batch=2048,
        lr=2e-4,
        updates=400_000,
        finetune_lr=5e-5,
        sequence_mb=2400,
        mask_prob=0.25,
        finetune_layer_decay=0.9,
    ),
}
# Not the paper's: for one CPU core, at about 10 000 tokens a second (docs/small-runs.md).
TINY = Recipe(
    tokens=64,
    batch=32,
    lr=5e-4,
    updates=1500,
    finetune_lr=5e-4,
    sequence_mb=5,
    electra="--generator-size 0.25",
)
TINY_BUDGETS: Dict[str, dict] = {
    "minutes": {"updates": 1500, "warmup": 150, "finetune_layer_decay": 1.0},
    "hour": {"updates": 15_750, "warmup": 500},
    "night": {"updates": 126_000, "warmup": 2000},
}
SMALL_RUNS = {  # what makes small runs learn
    "lr": 1e-3,
    "mask_prob": 0.3,
    "mlm_share": 3,
    "encoder": "--weight-init local --dropout 0 --attention-dropout 0 --adam-bias-correction",
    "electra": f"{TINY.electra} --disc-weight 10",
}
# for more than minutes: what keeps the upper layers from forgetting the words (docs/evidence.md)
LONGER_RUNS = {**SMALL_RUNS, "electra": f"{SMALL_RUNS['electra']} --clm-weight 1"}


def find_recipe(size: str, budget: str = "minutes", paper: bool = False) -> Recipe:
    """The recipe of a size; budget and `paper`, the paper's plain settings, are choices of tiny.

    Raises:
        ValueError: if there is no such size.
    """
    if size not in SIZES:
        raise ValueError(f"SIZE must be one of {', '.join(SIZES)}, not '{size}'")
    if size != "tiny":
        return PAPER[size]
    settings = SMALL_RUNS if budget == "minutes" else LONGER_RUNS
    return TINY._replace(**TINY_BUDGETS[budget], **({} if paper else settings))


class Machine(NamedTuple):
    """What is trained on; `gpus` 0: the CPU."""

    gpus: int
    has_bf16: bool
    gpu_mb: int
    cores: int

    @property
    def devices(self) -> int:
        return max(1, self.gpus)

    @property
    def loaders(self) -> int:
        """Processes that load data, for each device."""
        share = self.cores // self.devices if self.gpus else 2
        return min(max(1, share), MOST_LOADERS)


class Batch(NamedTuple):
    """Sequences of a device at once, how often in an update, and on how many devices."""

    sequences: int
    update_freq: int
    devices: int

    @property
    def total(self) -> int:
        return self.sequences * self.update_freq * self.devices


def fit_batch(recipe: Recipe, machine: Machine, micro_batch: Optional[int] = None) -> Batch:
    """The recipe's batch, or as near to it as whole batches of all devices come.

    A device takes `micro_batch` sequences at once, or what should fit a GPU, or all on the CPU.
    """
    devices = machine.devices
    each = max(1, (recipe.batch + devices // 2) // devices)  # of a device, in an update
    if micro_batch:
        return Batch(micro_batch, max(1, (each + micro_batch // 2) // micro_batch), devices)
    most = int(machine.gpu_mb * MEMORY_SHARE) // recipe.sequence_mb if machine.gpus else each
    most = min(max(1, most), each)
    least = -(-each // most)
    even = (freq for freq in range(least, 2 * least) if each % freq == 0)
    update_freq = next(even, least)
    return Batch(min(most, (each + update_freq // 2) // update_freq), update_freq, devices)


def precision(machine: Machine, model: str) -> str:
    """Products in 16 bits by autocast, weights in float32: the same policy for every model.

    ELECTRA's models have an option for it, in bf16. fairseq's RoBERTa has --amp, in float16; where
    a GPU has no bf16, all take that.
    """
    if not machine.gpus:
        return "--cpu"
    return "--precision bf16" if machine.has_bf16 and model != "roberta" else "--amp"


def pretraining(
    size: str, model: str, recipe: Recipe, machine: Machine, batch: Batch, updates: int
) -> List[str]:
    """Options of a pre-training of so many updates, without the data and the folder.

    Args:
        model: electra; electra_mlm, its encoder trained as RoBERTa is; roberta, fairseq's own.
        updates: those of the model itself, which for the others are as many as cost the same.
    """
    task = "electra" if model == "electra" else "masked_lm"
    rate = f"--lr {recipe.lr:g} --clip-norm 1.0"
    length = f"--warmup-updates {recipe.warmup} --max-update {updates}"
    if model == "roberta":
        optimizer = f"adam --adam-betas '(0.9, 0.999)' --adam-eps 1e-6 --weight-decay 0.01 {rate}"
        schedule = f"polynomial_decay {length} --total-num-update {updates}"
    else:
        optimizer, schedule = f"electra_adam {rate}", f"electra_decay {length}"
    lines = [
        f"--task {task} --criterion {task} {arch(size, model)}",
        f"--tokens-per-sample {recipe.tokens} --mask-prob {recipe.mask_prob:g} "
        "--sample-break-mode none",
        f"--optimizer {optimizer}",
        f"--lr-scheduler {schedule}",
        f"--batch-size {batch.sequences} --update-freq {batch.update_freq} "
        f"--num-workers {machine.loaders}",
        precision(machine, model),
    ]
    if model != "electra" or batch.sequences % 8:  # fairseq cuts batches to multiples of 8
        lines.append("--required-batch-size-multiple 1")
    if model != "roberta":
        lines.append(recipe.encoder)
    if model == "electra":
        stage = choose_mlm_updates(recipe, updates)
        lines += [f"--mlm-updates {stage}" if stage else "", recipe.electra]
    lines += [
        "--save-interval-updates 5000 --keep-interval-updates 2 --no-epoch-checkpoints",
        "--validate-interval-updates 5000 --log-interval 100 --log-format simple",
    ]
    return [line for line in lines if line]


def choose_mlm_updates(recipe: Recipe, updates: int) -> int:
    """Updates of ELECTRA's first stage, of so many in all."""
    return min(updates // recipe.mlm_share, MOST_MLM_UPDATES) if recipe.mlm_share else 0


def arch(size: str, model: str, finetune: bool = False) -> str:
    """The options that name a model and its sizes."""
    if model == "roberta":
        sizes = (
            f"--{name.replace('_', '-')} {value}"
            for name, value in SIZES[size]._asdict().items()
            if name.startswith("encoder_")
        )
        name = "roberta_layerwise" if finetune else "roberta"
        return f"--arch {name} {' '.join(sizes)} --max-positions 512"
    has_word_head = model == "electra_mlm" and not finetune
    return f"--arch {'electra_mlm' if has_word_head else 'electra'}_{size}"


def finetuning(
    size: str, model: str, kind: str, recipe: Recipe, machine: Machine, goal: str, updates: int
) -> List[str]:
    """Options of a fine-tuning of so many updates on one device, without the data and the folder.

    Args:
        kind: a key of FINETUNE_TASKS.
        goal: options that follow from the data, such as the number of classes.
    """
    task = FINETUNE_TASKS[kind]
    # a RoBERTa's pairs are <s> a </s></s> b </s>, as fairseq's own recipe has them
    pairs = "--separator-token 2" if model == "roberta" else "--max-positions 512"
    lines = [
        f"--task {task} --criterion {task} {arch(size, model, finetune=True)}",
        f"--init-token 0 {pairs}" if kind == "sentences" else "",
        goal,
        f"--optimizer electra_adam --lr {recipe.finetune_lr:g} --clip-norm 1.0 "
        f"--layerwise-lr-decay {recipe.finetune_layer_decay:g}",
        f"--lr-scheduler electra_decay --warmup-updates {updates // 10} --max-update {updates}",
        f"--batch-size {FINETUNE_BATCH} --required-batch-size-multiple 1 --num-workers 0",
        precision(machine, model),
        "--distributed-world-size 1" if machine.gpus else "",
        "--no-epoch-checkpoints --log-interval 20 --log-format simple",
    ]
    return [line for line in lines if line]


def read_option(options: Sequence[str], name: str, usual: int, least: int = 1) -> int:
    """The whole number that the last `name` among fairseq-train's options has, or `usual`.

    Raises:
        ValueError: if it is none.
    """
    value = str(usual)
    for place, option in enumerate(options):
        if option == name:
            value = " ".join(options[place + 1 : place + 2])
        elif option.startswith(name + "="):
            value = option[len(name) + 1 :]
    if not value.isdecimal() or int(value) < least:
        raise ValueError(f"{name} must be a whole number, {least} or more, not '{value}'")
    return int(value)
