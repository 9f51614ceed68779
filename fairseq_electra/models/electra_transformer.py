"""`--arch electra_transformer_small` and the other sizes: ELECTRA's encoder, fairseq's decoder.

For fairseq's stock `translation` task: summaries, rewriting. The encoder begins as that of the
ELECTRA checkpoint that `--finetune-from-model` names, the decoder with random weights; Rothe et al.
(2020) found that the encoder carries the gain. `fairseq-generate` needs the new checkpoint alone.
"""

from argparse import Namespace
from dataclasses import dataclass, field
from typing import Dict, List, Optional

import torch
from fairseq.data import Dictionary
from fairseq.models import FairseqEncoder, FairseqEncoderDecoderModel, register_model
from fairseq.models.transformer import TransformerDecoder, TransformerEncoder
from torch import Tensor, nn

from fairseq_electra.checkpoints.fitting import fingerprint, fit_encoder_decoder
from fairseq_electra.models.electra import register_size
from fairseq_electra.models.electra_config import (
    EncoderConfig,
    check_encoder,
    check_numbers,
    discriminator_encoder_size,
)
from fairseq_electra.models.generators import build_encoder
from fairseq_electra.modules.encoder import Embeddings, scale_to_fan_in
from fairseq_electra.modules.local_start import start_local
from fairseq_electra.recipes import SIZES


@dataclass
class ElectraTransformerConfig(EncoderConfig):
    """Options of the encoder as ELECTRA's, of the decoder as fairseq's transformer has them."""

    decoder_layers: int = field(default=6, metadata={"help": "decoder's layers"})
    decoder_embed_dim: Optional[int] = field(
        default=None, metadata={"help": "decoder's hidden size (default: the encoder's)"}
    )
    decoder_ffn_embed_dim: Optional[int] = field(
        default=None, metadata={"help": "decoder's FFN size (default: the encoder's)"}
    )
    decoder_attention_heads: Optional[int] = field(
        default=None, metadata={"help": "decoder's attention heads (default: the encoder's)"}
    )
    decoder_normalize_before: bool = field(
        default=False, metadata={"help": "LayerNorm before each of the decoder's blocks, not after"}
    )
    max_target_positions: int = field(
        default=1024, metadata={"help": "longest output in tokens, </s> counted"}
    )


DECODER_NUMBERS = (
    "decoder_layers",
    "decoder_embed_dim",
    "decoder_ffn_embed_dim",
    "decoder_attention_heads",
    "max_target_positions",
)


class ElectraEncoder(FairseqEncoder):
    """The discriminator's embeddings and layers, for fairseq's decoders.

    It reads `<s>` before the text, as in pre-training, and gives no features of it, so that there
    is one place for each of the task's tokens.

    Args:
        cfg: sizes and options.
        dictionary: the task's.
    """

    def __init__(self, cfg: EncoderConfig, dictionary: Dictionary):
        super().__init__(dictionary)
        self.bos_idx, self.pad_idx = dictionary.bos(), dictionary.pad()
        self.embeddings = Embeddings(len(dictionary), cfg.embedding_size, cfg.max_positions)
        self.encoder = build_encoder(cfg, discriminator_encoder_size(cfg), cfg.embedding_size)
        self.register_buffer("dictionary_fingerprint", fingerprint(dictionary))
        start = str(cfg.weight_init)
        if start in ("fan-in", "local"):
            self.encoder.layers.apply(scale_to_fan_in)
        if start == "local":
            start_local([(self.encoder, self.embeddings)])

    def forward(
        self, src_tokens: Tensor, src_lengths: Optional[Tensor] = None, **unused
    ) -> Dict[str, List[Tensor]]:
        """Tokens (B, T), padded on either side, `</s>` last -> fairseq's `encoder_out`.

        Returns:
            a dict of lists: features (T, B, C), the padding mask (B, T), and what is not computed.
        """
        padding_mask = src_tokens.eq(self.pad_idx)
        columns = torch.arange(src_tokens.size(1), device=src_tokens.device)
        shift = padding_mask.long().cumprod(1).sum(1, keepdim=True)  # (B, 1) padding on the left
        tokens = src_tokens.gather(1, (columns + shift) % len(columns))  # padding on the right
        tokens = torch.cat([tokens.new_full((len(tokens), 1), self.bos_idx), tokens], dim=1)
        x = self.encoder(self.embeddings(tokens), tokens.eq(self.pad_idx))[:, 1:]  # (B, T, C)
        places = ((columns - shift) % len(columns)).unsqueeze(2).expand_as(x)
        return {
            "encoder_out": [x.gather(1, places).transpose(0, 1)],  # (T, B, C)
            "encoder_padding_mask": [padding_mask],
            "encoder_embedding": [],
            "encoder_states": [],
            "src_tokens": [],
            "src_lengths": [],
        }

    # by beams, of the same dict
    reorder_encoder_out = TransformerEncoder.reorder_encoder_out

    def max_positions(self) -> int:
        """Longest text in tokens, `</s>` counted and `<s>` not."""
        return self.embeddings.embed_positions.num_embeddings - 1


@register_model("electra_transformer", dataclass=ElectraTransformerConfig)
class ElectraTransformer(FairseqEncoderDecoderModel):
    """ELECTRA's encoder and fairseq's transformer decoder, over one table of words.

    The decoder reads its words from the encoder's table and predicts them with it (fairseq's
    `--share-all-embeddings`): source and target have ELECTRA's dictionary.

    Args:
        cfg: sizes and options.
        dictionary: of source and target, with or without ELECTRA's `<mask>`.
    """

    def __init__(self, cfg: ElectraTransformerConfig, dictionary: Dictionary):
        encoder = ElectraEncoder(cfg, dictionary)
        super().__init__(encoder, build_decoder(cfg, dictionary, encoder.embeddings.embed_tokens))
        self.cfg = cfg

    @classmethod
    def build_model(cls, cfg: ElectraTransformerConfig, task) -> "ElectraTransformer":
        """Build for fairseq.

        Raises:
            ValueError: for options that have no meaning, and two dictionaries.
        """
        check_config(cfg)
        if task.source_dictionary != task.target_dictionary:
            raise ValueError(
                "source and target have different dictionaries, but this model has one table for "
                "both: make the data with fairseq-electra prepare-pairs, or with "
                "fairseq-preprocess --joined-dictionary --srcdict DATA_BIN/dict.txt"
            )
        return cls(cfg, task.source_dictionary)

    def upgrade_state_dict_named(self, state_dict: Dict[str, Tensor], name: str) -> None:
        """Make an ELECTRA's tensors, or this model's, loadable in place; fairseq asks for it."""
        fit_encoder_decoder(self, state_dict)
        super().upgrade_state_dict_named(state_dict, name)


def build_decoder(
    cfg: ElectraTransformerConfig, dictionary: Dictionary, embed_tokens: nn.Embedding
) -> TransformerDecoder:
    """fairseq's decoder, whose word table is the parameter of the encoder's."""
    words = nn.Embedding(*embed_tokens.weight.shape, padding_idx=dictionary.pad())
    words.weight = embed_tokens.weight
    args = Namespace(
        decoder_layers=cfg.decoder_layers,
        decoder_embed_dim=cfg.decoder_embed_dim or cfg.encoder_embed_dim,
        decoder_ffn_embed_dim=cfg.decoder_ffn_embed_dim or cfg.encoder_ffn_embed_dim,
        decoder_attention_heads=cfg.decoder_attention_heads or cfg.encoder_attention_heads,
        decoder_output_dim=cfg.embedding_size,
        decoder_normalize_before=cfg.decoder_normalize_before,
        encoder_embed_dim=cfg.encoder_embed_dim,
        dropout=cfg.dropout,
        attention_dropout=cfg.attention_dropout,
        activation_fn="gelu",
        max_target_positions=cfg.max_target_positions,
        share_decoder_input_output_embed=True,
        checkpoint_activations=cfg.checkpoint_activations,
    )
    return TransformerDecoder(args, dictionary, words)


def check_config(cfg: ElectraTransformerConfig) -> None:
    """Raise ValueError, naming the option, for a value that has no meaning."""
    check_encoder(cfg)
    check_numbers(cfg, DECODER_NUMBERS, ElectraTransformerConfig)
    hidden = cfg.decoder_embed_dim or cfg.encoder_embed_dim
    heads = cfg.decoder_attention_heads or cfg.encoder_attention_heads
    if hidden % heads != 0:
        raise ValueError(
            f"--decoder-attention-heads {heads} does not divide --decoder-embed-dim {hidden}"
        )


for name, size in SIZES.items():
    register_size("electra_transformer", f"electra_transformer_{name}", size)
