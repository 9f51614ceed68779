"""frozen_cost.py: its FLOPs beside those by hand, and a step of each kind."""

import pytest

from fairseq_electra.runs.count_flops import TransformerSize, electra_flops
from scripts.frozen_cost import KINDS, LENGTH, MASK_PROB, count, make_step
from tiny import make_dictionary


def test_a_frozen_generator_costs_a_third():
    setting = (TransformerSize(4, 128, 512, 2, 128), 0.25, 100, LENGTH, MASK_PROB)
    parts = electra_flops(*setting)
    generator = sum(flops for part, flops in parts.items() if part.startswith("generator"))
    assert count(0.25, 100, "usual") - count(0.25, 100, "frozen") == pytest.approx(
        generator * 2 / 3
    )
    assert count(0.25, 100, "--disc-weight 0") == pytest.approx(generator)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_each_kind_is_made(kind):
    make_step(make_dictionary(), 0.25, kind)()
