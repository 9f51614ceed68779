"""The authors' TensorFlow checkpoints to fairseq: `import-tf`, which needs the extra `tf`.

They have no configuration: sizes come from the variables' shapes, and heads are 64 wide as the
authors' always are, unless --heads says otherwise. Where 64 does not divide the discriminator's
hidden size, --heads must say it; a generator's heads follow the authors' rule at any size.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Iterator, List, Optional, Tuple

import torch
from torch import Tensor

from fairseq_electra.conversion.key_map import (
    DISCRIMINATOR,
    GENERATOR,
    TF,
    check_names,
    check_shapes,
    list_entries,
    to_ours,
)
from fairseq_electra.conversion.networks import (
    complete,
    list_shapes,
    read_arch,
    refuse_arch,
    size_network,
)
from fairseq_electra.conversion.tokenizer_files import read_wordpiece
from fairseq_electra.conversion.vocabulary import (
    foreign_rows,
    make_dictionary,
    rename_specials,
    reorder_words,
)
from fairseq_electra.data.tokenizer import RESERVED
from fairseq_electra.models.electra_config import (
    HEAD_WIDTH,
    ElectraConfig,
    choose_sharing,
    fit_generator,
    generator_encoder_size,
    usual_generator_size,
)
from fairseq_electra.modules.encoder import EncoderSize

WORD_TABLE = "electra/embeddings/word_embeddings"
# The number of updates, the optimizer's moments, the heads of fine-tuning.
FINETUNED = "task_specific/"
NOT_TAKEN = re.compile(rf"global_step$|.*/adam_[mv]$|{FINETUNED}")
SCOPES = {DISCRIMINATOR: "electra/", GENERATOR: "generator/"}


class TfTensors(Mapping):
    """Variables of a TensorFlow checkpoint by name, each read when asked for."""

    def __init__(self, prefix: Path):
        try:
            import tensorflow
        except ImportError:
            raise ValueError("TensorFlow is not installed: pip install '.[tf]'") from None
        if not prefix.with_name(prefix.name + ".index").is_file():
            raise ValueError(f"{prefix}: no {prefix.name}.index there; name it without its ending")
        try:
            self.reader = tensorflow.train.load_checkpoint(str(prefix))
        except (tensorflow.errors.OpError, ValueError, RuntimeError) as error:
            raise ValueError(f"{prefix} is damaged: {str(error).splitlines()[0]}") from None
        self.shapes = self.reader.get_variable_to_shape_map()
        self.damaged = (tensorflow.errors.OpError, ValueError, RuntimeError, IndexError)
        self.prefix = prefix

    def __getitem__(self, name: str) -> Tensor:
        try:
            return torch.from_numpy(self.reader.get_tensor(name))
        except self.damaged as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{self.prefix} is damaged or cut short: {reason}") from None

    def __contains__(self, name: object) -> bool:  # Mapping's would read the variable
        return name in self.shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def import_tf(
    variables: TfTensors,
    vocab: Path,
    cased: bool,
    heads: Optional[int],
    arch: Optional[str],
    generator_size: Optional[float],
) -> Tuple:
    """A whole model of a checkpoint and a BERT vocab.txt, and its tokenizer.

    Args:
        heads: the discriminator's attention heads; None for 64 wide ones, where those divide it.
        arch: sizes of the discriminator where there is none, and only there.
        generator_size: of a new generator.

    Raises:
        ValueError: for what is not ELECTRA, does not fit together, or the plugin cannot express.
    """
    foreign = read_vocabulary(vocab, cased)
    dictionary = make_dictionary(
        [word for word in rename_specials(foreign.words) if word not in RESERVED]
    )
    networks = find_networks(variables)
    check_vocabulary(variables, len(dictionary), vocab)
    cfg = choose_sizes(variables, networks, heads, arch, generator_size)
    shapes = list_shapes(cfg, dictionary)
    entries = {
        entry.ours: entry
        for name in networks
        for entry in list_entries(
            name,
            size_network(name, cfg).layers,
            choose_sharing(cfg) == "none",
            has_head(variables, name),
        )
        if entry.ours in shapes
    }.values()
    skipped = sorted(name for name in variables if NOT_TAKEN.match(name))
    where = str(variables.prefix)
    check_names(entries, set(variables) - set(skipped), TF, where)
    check_shapes(entries, variables, shapes, TF, where)
    tensors = to_ours(entries, variables, TF)
    reorder_words(tensors, foreign_rows(foreign.words, dictionary))
    notes = [*describe_heads(cfg, networks, heads), *describe_skipped(skipped)]
    return complete(cfg, dictionary, tensors, notes), foreign.tokenizer


def read_vocabulary(path: Path, cased: bool):
    """A BERT vocab.txt; ValueError, naming it, if it is not one."""
    try:
        return read_wordpiece(path.read_bytes(), cased)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def find_networks(variables: TfTensors) -> List[str]:
    """The networks whose encoders are in a checkpoint."""
    found = [name for name, scope in SCOPES.items() if f"{scope}encoder/" in "\n".join(variables)]
    if not found or WORD_TABLE not in variables:
        first = ", ".join(sorted(variables)[:3])
        raise ValueError(f"{variables.prefix} is not ELECTRA's: it has no {WORD_TABLE} ({first})")
    return found


def has_head(variables: TfTensors, network: str) -> bool:
    """Whether a pre-training head must be there: after fine-tuning the discriminator's is gone."""
    heads = {name.split("/")[0] for name in variables}
    is_finetuned = FINETUNED.rstrip("/") in heads and "discriminator_predictions" not in heads
    return not (network == DISCRIMINATOR and is_finetuned)


def check_vocabulary(variables: TfTensors, size: int, vocab: Path) -> None:
    """ValueError if there is not one row a word."""
    rows = variables.shapes[WORD_TABLE][0]
    if rows != size:
        raise ValueError(f"{vocab} has {size} entries, {WORD_TABLE} has {rows} rows")


def measure(variables: TfTensors, scope: str) -> EncoderSize:
    """Sizes of an encoder, heads 64 wide."""
    numbers = re.findall(rf"^{scope}encoder/layer_(\d+)/", "\n".join(variables), re.MULTILINE)
    hidden, ffn = variables.shapes[f"{scope}encoder/layer_0/intermediate/dense/kernel"]
    return EncoderSize(1 + max(map(int, numbers)), hidden, ffn, max(1, hidden // HEAD_WIDTH))


def choose_sizes(
    variables: TfTensors,
    networks: List[str],
    heads: Optional[int],
    arch: Optional[str],
    generator_size: Optional[float],
) -> ElectraConfig:
    """Sizes of both networks.

    Raises:
        ValueError: if the shapes and options leave a size open, or contradict each other.
    """
    if DISCRIMINATOR in networks:
        refuse_arch(arch)
        size = measure(variables, SCOPES[DISCRIMINATOR])
        if heads is None and size.hidden % HEAD_WIDTH != 0:
            raise ValueError(
                f"the discriminator's hidden size is {size.hidden}, not a multiple of "
                f"{HEAD_WIDTH}: say how many heads it has with --heads"
            )
        cfg = ElectraConfig(
            encoder_layers=size.layers,
            encoder_embed_dim=size.hidden,
            encoder_ffn_embed_dim=size.ffn,
            encoder_attention_heads=heads or size.heads,
        )
    elif heads is not None:
        raise ValueError("--heads is for a discriminator, and the checkpoint has none")
    elif arch is None:
        raise ValueError("a generator alone does not say how large its discriminator is: --arch")
    else:
        cfg = read_arch(arch)
    cfg.embedding_size = variables.shapes[WORD_TABLE][1]
    cfg.max_positions = variables.shapes["electra/embeddings/position_embeddings"][0]
    if GENERATOR not in networks:
        cfg.generator_size = generator_size or usual_generator_size(cfg.encoder_embed_dim)
        generator_encoder_size(cfg)  # refuses a share without whole heads
        return cfg
    size = measure(variables, SCOPES[GENERATOR])
    if DISCRIMINATOR not in networks:
        cfg.encoder_layers = size.layers
    if "generator/embeddings/word_embeddings" in variables:
        cfg.embedding_sharing = "none"
    fit_generator(cfg, size)
    return cfg


def describe_heads(cfg: ElectraConfig, networks: List[str], heads: Optional[int]) -> List[str]:
    """A line on the heads that no shape tells, where they were not given."""
    if heads is not None or DISCRIMINATOR not in networks:
        return []
    return [f"assumed: {cfg.encoder_attention_heads} heads, {HEAD_WIDTH} wide (--heads)"]


def describe_skipped(names: List[str]) -> List[str]:
    """Lines on what was not taken; an optimizer's moments as one."""
    moments = [name for name in names if "/adam_" in name]
    notes = [f"not taken: {name}" for name in names if name not in moments]
    return notes + ([f"not taken: {len(moments)} moments of the optimizer"] if moments else [])
