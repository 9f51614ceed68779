"""Random models as transformers writes them, at eleven sizes, and vocabularies in BERT's layout."""

import json
from pathlib import Path
from typing import List, NamedTuple, Optional

import torch

BERT_HEAD = ["[PAD]", *(f"[unused{n}]" for n in range(9)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = "the chef cooked a meal ##s ##ed cafe 中 國 é . , ! ? ( ) < > [ ] / mask un ##aff ##able"
LETTERS = [chr(letter) for letter in range(ord("a"), ord("z") + 1)]
VOCABULARY = [*BERT_HEAD, *dict.fromkeys([*WORDS.split(), *LETTERS, *(f"##{a}" for a in LETTERS)])]
TEXTS = [
    "The chef cooked a meal.",
    "Cafés, 中國 (unaffable)! ☃",
    "a [MASK] and <mask> the [SEP]",
    "x",
]


class Shape(NamedTuple):
    """Sizes of a pair; gen_hidden None: no generator."""

    layers: int
    hidden: int
    ffn: int
    heads: int
    embedding: int
    gen_hidden: int
    positions: int
    gen_layers: Optional[int] = None  # None for these three: the authors' rule
    gen_ffn: Optional[int] = None
    gen_heads: Optional[int] = None


SHAPES = [
    Shape(2, 32, 64, 2, 16, 16, 32),  # the generator without a projection
    Shape(2, 32, 64, 2, 32, 16, 32),  # the discriminator without one
    Shape(1, 32, 128, 4, 32, 32, 24),  # neither: as large as the discriminator
    Shape(3, 48, 96, 3, 24, 12, 40),
    Shape(12, 16, 64, 1, 8, 4, 32),
    Shape(2, 128, 512, 2, 64, 64, 32),
    Shape(2, 256, 1024, 4, 128, 64, 32),  # small but for the layers
    Shape(1, 768, 3072, 12, 768, 256, 32),  # base but for the layers
    Shape(2, 64, 100, 1, 20, 128, 33),  # a generator larger than its discriminator
    Shape(4, 40, 160, 5, 56, 8, 30),  # embeddings larger than both
    Shape(3, 48, 96, 3, 24, 24, 40, gen_layers=1, gen_ffn=40, gen_heads=2),  # nobody's rule
]


def fill_randomly(model, seed: int) -> None:
    """Weights with which no part is without effect: large, biases too, LayerNorms around one."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        std = 0.2 if parameter.dim() < 2 else 1 / parameter.size(-1) ** 0.5
        parameter.data.normal_(0, std, generator=generator)
        if "LayerNorm.weight" in name:
            parameter.data += 1


def make_pair(shape: Shape, vocab_size: int = len(VOCABULARY), is_untied: bool = False):
    """A discriminator and a generator of transformers, in evaluation mode."""
    from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining

    common = {
        "vocab_size": vocab_size,
        "num_hidden_layers": shape.layers,
        "max_position_embeddings": shape.positions,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    layers = {"num_hidden_layers": shape.gen_layers} if shape.gen_layers else {}
    discriminator = ElectraForPreTraining(
        ElectraConfig(
            embedding_size=shape.embedding,
            hidden_size=shape.hidden,
            intermediate_size=shape.ffn,
            num_attention_heads=shape.heads,
            **common,
        )
    )
    generator = ElectraForMaskedLM(
        ElectraConfig(
            embedding_size=shape.gen_hidden if is_untied else shape.embedding,
            hidden_size=shape.gen_hidden,
            intermediate_size=shape.gen_ffn or 4 * shape.gen_hidden,
            num_attention_heads=shape.gen_heads or max(1, shape.gen_hidden // 64),
            **{**common, **layers},
        )
    )
    fill_randomly(discriminator, 1)
    fill_randomly(generator, 2)
    if not is_untied:
        generator.electra.embeddings.load_state_dict(discriminator.electra.embeddings.state_dict())
    generator.tie_weights()
    return discriminator.eval(), generator.eval()


def save(model, folder: Path, vocabulary: Optional[List[str]] = None) -> Path:
    """A folder with the model and vocab.txt, as the authors' at Hugging Face are."""
    model.save_pretrained(folder)
    words = vocabulary or VOCABULARY
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    return folder


def edit_config(folder: Path, **changes) -> None:
    """Change fields of a config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_tensors(folder, **changes):
    """Replace tensors (None: delete) in a folder; dots in names are given as __."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    for name, tensor in changes.items():
        name = name.replace("__", ".")
        tensors.pop(name, None)
        if tensor is not None:
            tensors[name] = tensor
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
