"""The ELECTRA model and its sizes, and a RoBERTa that takes layer-wise decay."""

from fairseq_electra.models import electra, roberta_layerwise  # noqa: F401 (registers)
