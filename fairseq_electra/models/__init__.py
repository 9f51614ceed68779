"""ELECTRA and its sizes, its encoder alone or before a decoder, fairseq's RoBERTa by layers."""

from fairseq_electra.models import (  # noqa: F401 (registers)
    electra,
    electra_mlm,
    electra_transformer,
    roberta_layerwise,
)
