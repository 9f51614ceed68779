"""The criterions: of pre-training, and of fine-tuning that fairseq has none for."""

from fairseq_electra.criterions import (  # noqa: F401 (registers)
    electra,
    electra_answers,
    electra_tagging,
    electric,
)
