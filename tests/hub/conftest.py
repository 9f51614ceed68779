"""A tiny pre-trained model with its tokenizer, as `hub.load` gives it."""

import pytest
import sentencepiece  # noqa: F401 (before torch's own protobuf)

from fairseq_electra import hub
from tiny import TINY_OPTIONS
