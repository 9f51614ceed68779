"""The ELECTRA criterion."""

from fairseq_electra.criterions import electra  # noqa: F401 (registers)
