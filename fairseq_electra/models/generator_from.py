"""`--generator-from`: another checkpoint's generator as this run's, trained further or frozen.

In: fairseq's configuration of a run that begins. Out: the same configuration with the generator's
sizes in place of the file's name, so that whatever reads this run's checkpoints needs that file no
more, and the weights, for the model that is built of it.
"""

import logging
from dataclasses import fields
from pathlib import Path
from typing import Dict, NamedTuple, Optional

from torch import Tensor, nn

from fairseq_electra.checkpoints.files import LAST, load_whole, newest_checkpoint
from fairseq_electra.checkpoints.fitting import (
    DELTA,
    GENERATOR,
    MLM_HEAD,
    WORDS,
    check_dictionary,
)
from fairseq_electra.models.electra_config import (
    GENERATOR_NUMBERS,
    ElectraConfig,
    check_sharing,
    choose_sharing,
    discriminator_encoder_size,
    fit_generator,
    generator_encoder_size,
    read_run_option,
)
from fairseq_electra.modules.encoder import EncoderSize
from fairseq_electra.modules.shared_embeddings import DisentangledEmbeddings
from fairseq_electra.recipes import SIZES

logger = logging.getLogger(__name__)

EMBEDDINGS = "embeddings."
POSITIONS = "embed_positions.weight"
# of a masked language model, which are a generator's without "generator."
MLM_PARTS = {"encoder.": "encoder.", MLM_HEAD: "head."}


class GivenGenerator(NamedTuple):
    """A generator of a file: its sizes, and its tensors by the names that Generator gives them."""

    path: Path
    size: EncoderSize
    embeddings: Dict[str, Tensor]  # of its own or shared: an Embeddings' state
    network: Dict[str, Tensor]  # encoder and head
    checkpoint: Dict[str, Tensor]  # all of the file's
    is_copied: bool  # to the discriminator

    @property
    def width(self) -> int:
        """Of its embedding tables."""
        return self.embeddings["embed_tokens.weight"].size(1)


def take_generator(cfg, from_checkpoint: bool = False) -> Optional[GivenGenerator]:
    """Put the sizes of --generator-from into `cfg` in its place; None if it is not given.

    Args:
        cfg: the model's part of fairseq's configuration; it is changed, so that checkpoints have
            what is needed to build the model.
        from_checkpoint: it is a checkpoint's, whose generator has its weights.

    Raises:
        ValueError: for options that do not go together, and a file that has no generator.
        FileNotFoundError: if it is missing, and the save-dir has no checkpoint to go on from.
    """
    if not from_checkpoint:
        check_begin(cfg)
    if getattr(cfg, "generator_from", None) is None:
        return None
    check_sharing(cfg)
    starts = str(cfg.init_discriminator_from) == "generator"
    save_dir = read_run_option(cfg, "checkpoint", "save_dir")
    source = find_source(cfg.generator_from, save_dir)
    given = read_generator(source)._replace(is_copied=starts)
    if cfg.freeze_generator:
        cfg.embedding_sharing = "none"
    elif choose_sharing(cfg) != "none" and given.width != cfg.embedding_size:
        raise ValueError(
            f"--generator-from {given.path}: its tables are {given.width} wide, those of "
            f"--embedding-size {cfg.embedding_size}, and a generator that is trained shares them: "
            "give the same --embedding-size, or --freeze-generator or --embedding-sharing none"
        )
    if choose_sharing(cfg) == "none":
        cfg.generator_embedding_size = given.width
    rows = len(given.embeddings[POSITIONS])
    if rows < cfg.max_positions:
        raise ValueError(
            f"--generator-from {given.path} has {rows} positions, fewer than --max-positions "
            f"{cfg.max_positions}"
        )
    fit_generator(cfg, given.size)
    check_same_size(cfg, given)
    cfg.generator_from, cfg.init_discriminator_from = None, "random"  # said and done
    logger.info("the generator begins as that of %s: %s", given.path, describe_size(given))
    return given


def check_begin(cfg) -> None:
    """Raise ValueError, naming the options, where they do not say how a run begins."""
    path = getattr(cfg, "generator_from", None)
    is_frozen = getattr(cfg, "freeze_generator", False)
    starts = str(getattr(cfg, "init_discriminator_from", "random")) == "generator"
    if is_frozen and getattr(cfg, "two_tower_generator", False):
        raise ValueError(
            "--freeze-generator keeps a generator that fills masks, which --two-tower-generator "
            "does not: give one of them"
        )
    if is_frozen and path is None:
        raise ValueError(
            "--freeze-generator alone would freeze random weights: name the checkpoint whose "
            "generator it is with --generator-from"
        )
    if is_frozen:
        check_weights_of_frozen(cfg)
    if path is None and starts:
        raise ValueError(
            "--init-discriminator-from generator needs the checkpoint of the first stage: name it "
            "with --generator-from"
        )
    if path is None:
        return
    if getattr(cfg, "two_tower_generator", False):
        raise ValueError(
            "--generator-from has a generator that fills masks, which --two-tower-generator does "
            "not: give one of them"
        )
    sizes = [name for name in GENERATOR_NUMBERS if getattr(cfg, name) is not None]
    if cfg.generator_size != arch_generator_size(cfg):
        sizes.insert(0, "generator_size")
    if sizes:
        options = ", ".join("--" + name.replace("_", "-") for name in sizes)
        raise ValueError(f"--generator-from {path} has the sizes: leave out {options}")
    if starts and read_run_option(cfg, "checkpoint", "finetune_from_model") is not None:
        raise ValueError(
            "--init-discriminator-from generator and --finetune-from-model both say what the "
            "discriminator begins as: give one of them"
        )


def check_weights_of_frozen(cfg) -> None:
    """As `check_begin`, of the criterion's options beside --freeze-generator."""
    gen_weight = read_run_option(cfg, "criterion", "gen_weight")
    if gen_weight not in (None, 1.0) and cfg.mlm_updates == 0:
        raise ValueError(
            f"--gen-weight {gen_weight:g} has no meaning with --freeze-generator: leave it out"
        )
    if read_run_option(cfg, "criterion", "disc_weight") == 0:
        raise ValueError("--freeze-generator and --disc-weight 0: nothing would be learned")


def arch_generator_size(cfg) -> float:
    """What --generator-size is where it was not given: the architecture's."""
    name = str(getattr(cfg, "_name", None) or "").removeprefix("electra_")
    return SIZES[name].generator_size if name in SIZES else ElectraConfig.generator_size


def find_source(generator_from: str, save_dir: Optional[str]) -> Path:
    """The file of --generator-from; the run's own checkpoint, which has it too, if it is gone.

    Raises:
        FileNotFoundError: if both are missing.
    """
    path = Path(generator_from)
    if path.is_file():
        return path
    own = find_own(save_dir)
    if own is None:
        raise FileNotFoundError(f"--generator-from {path}: no such checkpoint")
    logger.info("--generator-from %s is gone: the generator's sizes are those in %s", path, own)
    return own


def find_own(save_dir: Optional[str]) -> Optional[Path]:
    """The checkpoint that a run of this save-dir goes on from; None if it begins."""
    if save_dir is None:
        return None
    last = Path(save_dir) / LAST
    return last if last.is_file() else newest_checkpoint(Path(save_dir))


def read_generator(path: Path) -> GivenGenerator:
    """The generator of an `electra` checkpoint, or what an `electra_mlm` one fills masks with.

    Raises:
        ValueError: if it is damaged, or has neither.
    """
    try:
        state = load_whole(path)
        tensors, options = state["model"], dict(state["cfg"]["model"])
    except (KeyError, TypeError, ValueError) as error:
        reason = f"is no checkpoint of this plugin: {error}"
        raise ValueError(f"--generator-from {path} {reason}") from None
    known = {field.name for field in fields(ElectraConfig)}
    cfg = ElectraConfig(**{name: options[name] for name in options.keys() & known})
    if cfg.two_tower_generator:
        raise ValueError(
            f"--generator-from {path}: its generator is two towers, of --criterion electric, and "
            "fills no masks"
        )
    if any(name.startswith(GENERATOR) for name in tensors):
        own = select(tensors, GENERATOR)
        tables = select(own, EMBEDDINGS) or select(tensors, EMBEDDINGS)
        network = {name: own[name] for name in own if not name.startswith(EMBEDDINGS)}
        size = generator_encoder_size(cfg)
    elif any(name.startswith(MLM_HEAD) for name in tensors):
        tables, network = select(tensors, EMBEDDINGS), {}
        for prefix, here in MLM_PARTS.items():
            found = select(tensors, prefix).items()
            network.update({here + name: tensor for name, tensor in found})
        size = discriminator_encoder_size(cfg)
    else:
        raise ValueError(
            f"--generator-from {path} has no generator: it is of a {options.get('_name')} model. "
            "Name a checkpoint of pre-training, --arch electra or electra_mlm"
        )
    return GivenGenerator(path, size, tables, network, tensors, is_copied=False)


def select(tensors: Dict[str, Tensor], prefix: str) -> Dict[str, Tensor]:
    """Those whose names begin with `prefix`, without it."""
    found = tensors.items()
    return {name[len(prefix) :]: tensor for name, tensor in found if name.startswith(prefix)}


def check_same_size(cfg, given: GivenGenerator) -> None:
    """ValueError, with both sizes, if the discriminator cannot begin as the generator."""
    wanted = (discriminator_encoder_size(cfg), cfg.embedding_size)
    if given.is_copied and wanted != (given.size, given.width):
        raise ValueError(
            "--init-discriminator-from generator: the sizes differ. The generator of "
            f"{given.path} has {describe_size(given)}, the discriminator "
            f"{describe_encoder(*wanted)}"
        )


def describe_size(given: GivenGenerator) -> str:
    return describe_encoder(given.size, given.width)


def describe_encoder(size: EncoderSize, width: int) -> str:
    """Sizes in words."""
    return (
        f"{size.layers} layers of {size.hidden}, FFN {size.ffn}, {size.heads} heads, "
        f"embeddings of {width}"
    )


def begin_with(model, given: GivenGenerator, cfg) -> None:
    """Give a model that was just built the generator, and the discriminator what it begins as.

    Args:
        cfg: what `take_generator` changed.

    Raises:
        ValueError: if the generator was trained with another dictionary.
    """
    if not {WORDS, DELTA}.isdisjoint(given.checkpoint):
        try:
            check_dictionary(model, dict(given.checkpoint))
        except ValueError as error:
            raise ValueError(f"--generator-from {given.path}: {error}") from None
    generator = model.generator
    generator.encoder.load_state_dict(select(given.network, "encoder."))
    generator.head.load_state_dict(select(given.network, "head."))
    if generator.embeddings is not None:
        load_tables(generator.embeddings, given)
    if isinstance(model.embeddings, DisentangledEmbeddings):
        model.embeddings.begin_as_base()
    elif generator.embeddings is None or given.is_copied:
        load_tables(model.embeddings, given)
    if given.is_copied:
        model.encoder.load_state_dict(generator.encoder.state_dict())
        model.discriminator_head.start_even()  # nothing it asks for spoils what the encoder knows
    if is_beginning(cfg):
        # the model's load and, with --store-ema, that of its copy with the averages
        model.keeps_generator = 1 + bool(read_run_option(cfg, "ema", "store_ema"))


def load_tables(embeddings: nn.Module, given: GivenGenerator) -> None:
    """Load the tables, of the positions as many as there are places for."""
    rows = embeddings.embed_positions.num_embeddings
    tables = {**given.embeddings, POSITIONS: given.embeddings[POSITIONS][:rows]}
    embeddings.load_state_dict(tables)


def is_beginning(cfg) -> bool:
    """Whether fairseq will load --finetune-from-model, and not a checkpoint of this run."""
    save_dir = read_run_option(cfg, "checkpoint", "save_dir")
    starts = read_run_option(cfg, "checkpoint", "finetune_from_model") is not None
    return starts and find_own(save_dir) is None
