"""The ELECTRA model and its sizes."""

from fairseq_electra.models import electra  # noqa: F401 (registers)
