"""ELECTRA and its sizes, its encoder as a RoBERTa, fairseq's RoBERTa with layer-wise decay."""

from fairseq_electra.models import electra, electra_mlm, roberta_layerwise  # noqa: F401 (registers)
