"""`--arch roberta_layerwise`: fairseq's RoBERTa, with layers that the optimizers can tell apart.

The same weights, options and checkpoints as `--arch roberta`; for a fair comparison, it can be
fine-tuned with `--layerwise-lr-decay` and on `--task electra_tagging` too.
"""

from typing import Dict

from fairseq.models import register_model, register_model_architecture
from fairseq.models.roberta import RobertaModel
from fairseq.models.roberta.model import base_architecture
from torch import Tensor, nn

from fairseq_electra.checkpoints.fitting import HEADS, check_labels
from fairseq_electra.optim.layerwise import mark_depths


@register_model("roberta_layerwise")
class LayerwiseRoberta(RobertaModel):
    """fairseq's RobertaModel with the depths of its parameters marked, and any head on it."""

    @classmethod
    def build_model(cls, args, task) -> "LayerwiseRoberta":
        model = super().build_model(args, task)
        encoder = model.encoder.sentence_encoder
        embeddings = [encoder.embed_tokens, encoder.embed_positions, encoder.layernorm_embedding]
        mark_depths(embeddings, encoder.layers)
        return model

    def add_head(self, name: str, head: nn.Module) -> None:
        """Add a head that `forward` applies by name: features (B, T, C) -> anything."""
        self.classification_heads[name] = head

    def upgrade_state_dict_named(self, state_dict: Dict[str, Tensor], name: str) -> None:
        """As fairseq's, which asks every head for its `dense`: others are put aside meanwhile.

        Raises:
            ValueError: if the checkpoint's head was trained with other labels.
        """
        check_labels(self, state_dict)
        heads = {key.split(".")[1] for key in state_dict if key.startswith(HEADS)}
        added = tuple(
            f"{HEADS}{head}." for head in heads if f"{HEADS}{head}.dense.weight" not in state_dict
        )
        aside = {key: state_dict.pop(key) for key in list(state_dict) if key.startswith(added)}
        super().upgrade_state_dict_named(state_dict, name)
        own = self.classification_heads.state_dict()
        state_dict.update({key: aside[key] for key in aside if key.removeprefix(HEADS) in own})


@register_model_architecture("roberta_layerwise", "roberta_layerwise")
def roberta_layerwise(args):
    """The sizes of fairseq's `roberta` where the options give none."""
    base_architecture(args)
