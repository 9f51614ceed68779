"""The tasks: pre-training, and fine-tuning that fairseq has no task for."""

from fairseq_electra.tasks import electra, electra_answers, electra_tagging  # noqa: F401 (registers)
