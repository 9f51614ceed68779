"""The criterions: of pre-training, and of fine-tuning that fairseq has none for."""

from fairseq_electra.criterions import electra, electra_answers, electra_tagging  # noqa: F401 (registers)
