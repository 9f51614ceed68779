"""`--arch roberta_layerwise`: fairseq's RoBERTa, with layers that the optimizers can tell apart.

The same weights, options and checkpoints as `--arch roberta`; for a fair comparison, it can be
fine-tuned with `--layerwise-lr-decay` too.
"""

from fairseq.models import register_model, register_model_architecture
from fairseq.models.roberta import RobertaModel
from fairseq.models.roberta.model import base_architecture

from fairseq_electra.optim.layerwise import mark_depths


@register_model("roberta_layerwise")
class LayerwiseRoberta(RobertaModel):
    """fairseq's RobertaModel with the depths of its parameters marked."""

    @classmethod
    def build_model(cls, args, task) -> "LayerwiseRoberta":
        model = super().build_model(args, task)
        encoder = model.encoder.sentence_encoder
        embeddings = [encoder.embed_tokens, encoder.embed_positions, encoder.layernorm_embedding]
        mark_depths(embeddings, encoder.layers)
        return model


@register_model_architecture("roberta_layerwise", "roberta_layerwise")
def roberta_layerwise(args):
    """The sizes of fairseq's `roberta` where the options give none."""
    base_architecture(args)
