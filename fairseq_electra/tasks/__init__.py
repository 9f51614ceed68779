"""The ELECTRA task."""

from fairseq_electra.tasks import electra  # noqa: F401 (registers)
