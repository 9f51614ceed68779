"""Options of the model, and the sizes of both networks that follow from them."""

import math
from contextlib import nullcontext
from dataclasses import dataclass, field, fields
from typing import Optional, Sequence, Type

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from omegaconf import OmegaConf, open_dict

from fairseq_electra.modules.attention import ATTENTION_IMPLS
from fairseq_electra.modules.compiling import COMPILE_MODES
from fairseq_electra.modules.encoder import EncoderSize

PRECISIONS = ("float32", "bf16")
WEIGHT_INITS = ("bert", "fan-in", "local")
POOLINGS = ("first", "mean")
DISCRIMINATOR_STARTS = ("random", "generator")
EMBEDDING_SHARINGS = ("all", "gdes", "none")
HEAD_WIDTH = 64  # of the generator's attention heads (google-research/electra, pretrain)
GENERATOR_SIZES = (1 / 3, 1 / 4, 1 / 2)  # base's, small's and large's, tiny's


@dataclass
class EncoderConfig(FairseqDataclass):
    """Options of one encoder, which is ELECTRA's discriminator; the defaults are base's sizes."""

    encoder_layers: int = field(default=12, metadata={"help": "discriminator's layers"})
    encoder_embed_dim: int = field(default=768, metadata={"help": "discriminator's hidden size"})
    encoder_ffn_embed_dim: int = field(default=3072, metadata={"help": "discriminator's FFN size"})
    encoder_attention_heads: int = field(
        default=12, metadata={"help": "discriminator's attention heads"}
    )
    embedding_size: int = field(default=768, metadata={"help": "size of the embedding tables"})
    max_positions: int = field(default=512, metadata={"help": "learned positions"})
    dropout: float = field(default=0.1, metadata={"help": "dropout after embeddings and sublayers"})
    attention_dropout: float = field(default=0.1, metadata={"help": "dropout of attention weights"})
    weight_init: ChoiceEnum(WEIGHT_INITS) = field(
        default="bert",
        metadata={
            "help": "bert: a standard deviation of 0.02, as the authors; fan-in: one over the root "
            "of the inputs, for sizes far below the paper's; local: fan-in, and two layers that "
            "begin by attending to the neighbours, for short trainings"
        },
    )
    attention: ChoiceEnum(ATTENTION_IMPLS) = field(
        default="fused",
        metadata={
            "help": "fused: torch's kernels, and padding left out; reference: plain, for comparison"
        },
    )
    checkpoint_activations: bool = field(
        default=False,
        metadata={"help": "compute layers again in the backward pass: less memory, a third more"},
    )


@dataclass
class ElectraConfig(EncoderConfig):
    """Options of the model; the defaults are the paper's base size."""

    generator_size: float = field(
        default=1 / 3,
        metadata={
            "help": "generator's hidden size as a share of the discriminator's; its FFN is 4 times "
            "its hidden size, its heads are 64 wide, its layers are as many, unless given"
        },
    )
    generator_layers: Optional[int] = field(
        default=None, metadata={"help": "generator's layers (default: the discriminator's)"}
    )
    generator_ffn_embed_dim: Optional[int] = field(
        default=None, metadata={"help": "generator's FFN size (default: 4 x its hidden size)"}
    )
    generator_attention_heads: Optional[int] = field(
        default=None,
        metadata={"help": "generator's attention heads (default: 64 wide, at least one)"},
    )
    embedding_sharing: Optional[ChoiceEnum(EMBEDDING_SHARINGS)] = field(
        default=None,
        metadata={
            "help": "all: both networks have the same embeddings; gdes: the discriminator's tables "
            "are the generator's, without gradient, plus differences of its own (DeBERTaV3); none: "
            "the generator has embeddings of its own, as wide as its layers (default: all)"
        },
    )
    untie_embeddings: bool = field(
        default=False, metadata={"help": "the former name of --embedding-sharing none"}
    )
    two_tower_generator: bool = field(
        default=False,
        metadata={
            "help": "for --criterion electric: the generator is two networks of its size, which "
            "read the text from the left and from the right and predict all tokens without <mask>"
        },
    )
    generator_embedding_size: Optional[int] = field(
        default=None,
        metadata={
            "help": "width of the generator's own tables (default: its hidden size); with "
            "--generator-from that of the checkpoint"
        },
    )
    generator_from: Optional[str] = field(
        default=None,
        metadata={
            "help": "checkpoint of electra or electra_mlm, trained with the same dictionary, whose "
            "generator (or masked language model) this run's generator begins as, sizes included"
        },
    )
    freeze_generator: bool = field(
        default=False,
        metadata={"help": "do not train the generator of --generator-from; its tables are its own"},
    )
    init_discriminator_from: ChoiceEnum(DISCRIMINATOR_STARTS) = field(
        default="random",
        metadata={
            "help": "generator: encoder and embeddings of the discriminator begin as those of "
            "--generator-from, which has the same sizes (the second of two stages)"
        },
    )
    mlm_updates: int = field(
        default=0,
        metadata={
            "help": "in so many updates, the first, the discriminator's encoder learns to fill "
            "masks as the generator does; replaced-token detection begins after them"
        },
    )
    clm_weight: float = field(
        default=0.0,
        metadata={
            "help": "weight of corrective language modelling (COCO-LM): beside judging the tokens, "
            "the discriminator's encoder predicts the original words at the picked positions"
        },
    )
    temperature: float = field(
        default=1.0, metadata={"help": "temperature of the generator's samples"}
    )
    temperature_decay: Optional[float] = field(
        default=None,
        metadata={
            "help": "let the temperature fall from --temperature to 1: what is above 1 falls by a "
            "factor of e in this share of --max-update (default: it stays)"
        },
    )
    disallow_correct: bool = field(
        default=False, metadata={"help": "never sample the original token"}
    )
    pooling: ChoiceEnum(POOLINGS) = field(
        default="first",
        metadata={
            "help": "what a head for sentences reads: first: the features of <s>, as the authors; "
            "mean: of all tokens, better after short pre-training"
        },
    )
    precision: ChoiceEnum(PRECISIONS) = field(
        default="float32",
        metadata={
            "help": "bf16: matrix products in bfloat16 (autocast), weights, losses, softmax and "
            "sampling in float32, on GPU and CPU"
        },
    )
    compile: ChoiceEnum(COMPILE_MODES) = field(
        default="none",
        metadata={"help": "torch.compile's mode for the pre-training step"},
    )


ENCODER_NUMBERS = (
    "encoder_layers",
    "encoder_embed_dim",
    "encoder_ffn_embed_dim",
    "encoder_attention_heads",
    "embedding_size",
    "max_positions",
)
GENERATOR_NUMBERS = (
    "generator_layers",
    "generator_ffn_embed_dim",
    "generator_attention_heads",
    "generator_embedding_size",
)
MOST_LAYERS, LARGEST_SIZE = 1000, 1_000_000  # more is a slip, and would be built for ever
MOST_SHOWN = 40  # characters of a wrong value
LARGEST_GENERATOR = 10.0  # times the discriminator's hidden size; the paper's are 1 at most


def check_config(cfg: ElectraConfig) -> None:
    """Raise ValueError, naming the option, for a value that has no meaning.

    It is asked when a model is built or converted; without it such values fail later without their
    names, or train something else (no layers for -1, samples of the least likely words below
    temperature 0).
    """
    check_encoder(cfg)
    check_numbers(cfg, GENERATOR_NUMBERS, ElectraConfig)
    if not (type(cfg.mlm_updates) is int and cfg.mlm_updates >= 0):
        raise ValueError(
            f"--mlm-updates must be a whole number, 0 or more, not {_show(cfg.mlm_updates)}"
        )
    if not (_is_number(cfg.clm_weight) and 0 <= cfg.clm_weight < math.inf):
        raise ValueError(f"--clm-weight must be a number, 0 or more, not {_show(cfg.clm_weight)}")
    if not (_is_number(cfg.temperature) and 0 < cfg.temperature < math.inf):
        raise ValueError(f"--temperature must be a number above 0, not {_show(cfg.temperature)}")
    check_temperature_decay(cfg)
    check_sharing(cfg)
    if not (_is_number(cfg.generator_size) and 0 < cfg.generator_size <= LARGEST_GENERATOR):
        raise ValueError(
            f"--generator-size {_show(cfg.generator_size)} is not a share of --encoder-embed-dim: "
            f"it must be above 0 and at most {LARGEST_GENERATOR:g}, usually 0.25"
        )
    if cfg.two_tower_generator:
        check_two_towers(cfg)


def check_two_towers(cfg: ElectraConfig) -> None:
    """ValueError for options with which there would be masks, or noise of another distribution."""
    if cfg.mlm_updates > 0:
        raise ValueError(
            f"--two-tower-generator reads no <mask>, which --mlm-updates {cfg.mlm_updates} fills: "
            "leave out one of both (--mlm-updates 0)"
        )
    if cfg.clm_weight > 0:
        raise ValueError("--clm-weight cannot be used with --two-tower-generator: leave it out")
    if cfg.disallow_correct or cfg.temperature != 1:
        option = "--disallow-correct" if cfg.disallow_correct else "--temperature"
        raise ValueError(
            f"{option} cannot be used with --two-tower-generator: energies mean something if the "
            "samples are from the generator's own distribution"
        )


def check_temperature_decay(cfg: ElectraConfig) -> None:
    """As `check_config`, of --temperature-decay."""
    decay = cfg.temperature_decay
    if decay is None:
        return
    if not (_is_number(decay) and 0 < decay < math.inf):
        raise ValueError(f"--temperature-decay must be a number above 0, not {_show(decay)}")
    if cfg.temperature == 1:
        raise ValueError(
            f"--temperature-decay {decay:g} falls from --temperature to 1, but --temperature is 1: "
            "give, say, --temperature 2"
        )


def check_sharing(cfg: ElectraConfig) -> None:
    """As `check_config`, of --embedding-sharing and what goes with one of its values alone."""
    sharing = choose_sharing(cfg)
    if cfg.generator_embedding_size is not None and sharing != "none":
        raise ValueError(
            f"--generator-embedding-size {cfg.generator_embedding_size} is the width of tables "
            f"that are the generator's own: give --embedding-sharing none, not {sharing}"
        )
    if cfg.freeze_generator and sharing == "gdes":
        raise ValueError(
            "--embedding-sharing gdes keeps a loss from a generator that learns, which with "
            "--freeze-generator it does not: leave out one of both"
        )


def choose_sharing(cfg: ElectraConfig) -> str:
    """Which of EMBEDDING_SHARINGS holds, also where the former --untie-embeddings says so.

    Raises:
        ValueError: if it is none of them, or both options are given and contradict each other.
    """
    if cfg.embedding_sharing is None:
        return "none" if cfg.untie_embeddings else "all"
    sharing = str(cfg.embedding_sharing)
    if sharing not in EMBEDDING_SHARINGS:
        raise ValueError(
            f"--embedding-sharing must be one of {', '.join(EMBEDDING_SHARINGS)}, "
            f"not {_show(sharing)}"
        )
    if cfg.untie_embeddings and sharing != "none":
        raise ValueError(
            f"--embedding-sharing {sharing} and --untie-embeddings, the former name of "
            "--embedding-sharing none, contradict each other: leave out the second"
        )
    return sharing


def check_encoder(cfg: EncoderConfig) -> None:
    """As `check_config`, of the options that every encoder has."""
    check_numbers(cfg, ENCODER_NUMBERS, EncoderConfig)
    for name in ("dropout", "attention_dropout"):
        value = getattr(cfg, name)
        if not (_is_number(value) and 0 <= value < 1):
            raise ValueError(f"{_option(name)} must be from 0 to below 1, not {_show(value)}")


def check_numbers(cfg: EncoderConfig, names: Sequence[str], kind: Type[EncoderConfig]) -> None:
    """ValueError for a size that no network has; None is one where it is `kind`'s default."""
    for name in names:
        value = getattr(cfg, name)
        most = MOST_LAYERS if name.endswith("layers") else LARGEST_SIZE
        is_left_out = value is None and getattr(kind, name) is None
        if not is_left_out and not (type(value) is int and 1 <= value <= most):
            raise ValueError(f"{_option(name)} must be from 1 to {most}, not {_show(value)}")


def _is_number(value) -> bool:
    """A configuration from a file, as conversions read it, may hold anything."""
    return type(value) in (int, float)


def _show(value) -> str:
    return repr(value)[:MOST_SHOWN] if isinstance(value, str) else str(value)[:MOST_SHOWN]


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def usual_generator_size(hidden: int) -> float:
    """A share for the generator of a discriminator of that hidden size.

    It is the first of GENERATOR_SIZES that gives heads of HEAD_WIDTH, or the first of all. Of the
    paper's sizes it is the paper's: small 1/4, base 1/3, large 1/4.
    """
    widths = ((size, round(hidden * size)) for size in GENERATOR_SIZES)
    fitting = (size for size, width in widths if width > 0 and width % HEAD_WIDTH == 0)
    return next(fitting, GENERATOR_SIZES[0])


def generator_encoder_size(cfg: ElectraConfig) -> EncoderSize:
    """Sizes of the generator, by the authors' rule (pretrain/pretrain_helpers and run_pretraining)
    where the options do not say otherwise.

    Raises:
        ValueError: if the hidden size that `generator_size` gives has no whole heads.
    """
    hidden = round(cfg.encoder_embed_dim * cfg.generator_size)
    heads = cfg.generator_attention_heads or max(1, hidden // HEAD_WIDTH)
    if hidden < 1 or hidden % heads != 0:
        raise ValueError(
            f"--generator-size {cfg.generator_size:g} of --encoder-embed-dim "
            f"{cfg.encoder_embed_dim} gives a hidden size of {hidden}, which {heads} heads do not "
            f"divide: choose a share that gives a multiple of {HEAD_WIDTH} (or less than "
            f"{2 * HEAD_WIDTH})"
        )
    layers = cfg.generator_layers or cfg.encoder_layers
    return EncoderSize(layers, hidden, cfg.generator_ffn_embed_dim or 4 * hidden, heads)


def fit_generator(cfg: ElectraConfig, size: EncoderSize) -> None:
    """Set the options of cfg that give a generator of this size."""
    cfg.generator_size = size.hidden / cfg.encoder_embed_dim
    for option, wanted, usual in (
        ("generator_layers", size.layers, cfg.encoder_layers),
        ("generator_ffn_embed_dim", size.ffn, 4 * size.hidden),
        ("generator_attention_heads", size.heads, max(1, size.hidden // HEAD_WIDTH)),
    ):
        setattr(cfg, option, None if wanted == usual else wanted)
    assert generator_encoder_size(cfg) == size


def own_table_width(cfg: ElectraConfig) -> Optional[int]:
    """Width of the generator's embedding tables; None where it shares the discriminator's.

    The authors' untied tables are as wide as the generator's layers, so that nothing is projected.
    """
    if choose_sharing(cfg) == "none":
        return cfg.generator_embedding_size or generator_encoder_size(cfg).hidden
    return cfg.embedding_size if cfg.freeze_generator else None


def discriminator_encoder_size(cfg: ElectraConfig) -> EncoderSize:
    """Sizes of the discriminator.

    Raises:
        ValueError: if the heads do not divide the hidden size.
    """
    if cfg.encoder_embed_dim % cfg.encoder_attention_heads != 0:
        raise ValueError(
            f"--encoder-attention-heads {cfg.encoder_attention_heads} does not divide "
            f"--encoder-embed-dim {cfg.encoder_embed_dim}"
        )
    return EncoderSize(
        cfg.encoder_layers,
        cfg.encoder_embed_dim,
        cfg.encoder_ffn_embed_dim,
        cfg.encoder_attention_heads,
    )


def read_run_option(cfg, section: str, name: str):
    """An option of another section of fairseq's configuration, of which `cfg` is a part.

    None where there is no such section, as in library use.
    """
    found = cfg._get_root() if OmegaConf.is_config(cfg) else {}
    for key in (section, name):
        if found is None or key not in found:
            return None
        found = found[key]
    return found


def fill_defaults(cfg):
    """Give `cfg`, of a checkpoint that may be older than some options, their defaults."""
    missing = [f for f in fields(ElectraConfig) if not hasattr(cfg, f.name)]
    if missing:
        with open_dict(cfg) if OmegaConf.is_config(cfg) else nullcontext():
            for option in missing:
                setattr(cfg, option.name, option.default)
    return cfg
