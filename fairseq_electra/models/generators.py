"""The networks that the options ask for: an encoder, a generator of either kind."""

from typing import List, Type, Union

from torch import Tensor, nn

from fairseq_electra.models.electra_config import (
    ElectraConfig,
    generator_encoder_size,
    own_table_width,
)
from fairseq_electra.modules.encoder import Embeddings, Encoder, EncoderSize, gather_positions
from fairseq_electra.modules.heads import GeneratorHead
from fairseq_electra.modules.two_towers import LeftToRight, RightToLeft, TwoTowerGenerator


class Generator(nn.Module):
    """The small masked language model; borrows its embeddings under `--embedding-sharing all`.

    Frozen (`--freeze-generator`) it is the same function throughout: nothing of it is trained, it
    has embeddings of its own, as shared ones would move with the discriminator, and no dropout.
    """

    def __init__(self, cfg: ElectraConfig, num_tokens: int):
        super().__init__()
        size = generator_encoder_size(cfg)
        own_width = own_table_width(cfg)
        embedding_size = cfg.embedding_size if own_width is None else own_width
        self.embeddings = None
        if own_width is not None:
            self.embeddings = Embeddings(num_tokens, embedding_size, cfg.max_positions)
        self.encoder = build_encoder(cfg, size, embedding_size)
        self.head = GeneratorHead(size.hidden, embedding_size, num_tokens)
        self.is_frozen = bool(cfg.freeze_generator)
        if self.is_frozen:
            self.requires_grad_(False)  # no optimizer gets them, and no graph is made of them

    def train(self, mode: bool = True) -> "Generator":
        """As of any module, but a frozen one stays in evaluation mode."""
        return super().train(mode and not self.is_frozen)

    @property
    def encoders(self) -> List[Encoder]:
        return [self.encoder]

    def forward(
        self, tokens, token_types, padding_mask, picked, shared: Embeddings, places=None
    ) -> Tensor:
        """Masked tokens (B, T) -> vocabulary logits at the picked positions (B, K, V)."""
        embeddings = shared if self.embeddings is None else self.embeddings
        features = self.encoder(embeddings(tokens, token_types), padding_mask, places=places)
        return self.head(gather_positions(features, picked), embeddings.embed_tokens.weight)


def build_generator(cfg: ElectraConfig, num_tokens: int) -> Union[Generator, TwoTowerGenerator]:
    """The generator that the options ask for."""
    if not cfg.two_tower_generator:
        return Generator(cfg, num_tokens)
    size = generator_encoder_size(cfg)
    own, own_width = None, own_table_width(cfg)
    embedding_size = cfg.embedding_size if own_width is None else own_width
    if own_width is not None:
        own = Embeddings(num_tokens, embedding_size, cfg.max_positions)
    towers = [build_encoder(cfg, size, embedding_size, kind) for kind in (LeftToRight, RightToLeft)]
    return TwoTowerGenerator(
        *towers, GeneratorHead(2 * size.hidden, embedding_size, num_tokens), own
    )


def build_encoder(
    cfg: ElectraConfig, size: EncoderSize, embedding_size: int, kind: Type[Encoder] = Encoder
) -> Encoder:
    """An encoder of the given size with the options that all networks have in common."""
    return kind(
        size,
        embedding_size,
        cfg.dropout,
        cfg.attention_dropout,
        str(cfg.attention),
        cfg.checkpoint_activations,
    )
