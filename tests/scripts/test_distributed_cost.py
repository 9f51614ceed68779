"""distributed_cost.py against an update counted by hand, and as run."""

import pytest

from scripts.benchmark.distributed_cost import Machine, count_parameters, estimate, main

MACHINE = Machine(flops=100.0, node_bytes=50.0, network_bytes=10.0, latency=0.5, gpus_per_node=2)


def test_one_gpu_exchanges_nothing():
    cost = estimate(1, 6, 1200.0, 100.0, MACHINE)
    assert (cost.bytes, cost.compute, cost.exchange, cost.plain) == (0, 12, 0, 1)


def test_two_gpus_of_a_node_by_hand():
    cost = estimate(2, 6, 1200.0, 100.0, MACHINE)
    assert (cost.sequences, cost.bytes, cost.compute) == (3, 100, 6)
    assert cost.exchange == 100 / 50 + 2 * 0.5
    assert cost.plain == pytest.approx(6 / 9)
    assert cost.overlapped == 1  # 3 s behind a backward pass of 4 s


def test_more_gpus_than_sequences_stand_idle():
    cost = estimate(12, 6, 1200.0, 120.0, MACHINE)
    assert cost.compute == 2  # one sequence is the least
    assert cost.exchange == pytest.approx(220 / 10 + 22 * 0.5)
    assert cost.overlapped == pytest.approx(1 / (2 + 33 - 4 / 3))


def test_the_table(capsys):
    main(["--arch", "electra_small", "--gpus", "1", "1000"])
    title, *_, last = capsys.readouterr().out.strip().splitlines()
    assert f"{count_parameters('electra_small', 30522) / 1e6:.1f} M parameters" in title
    assert last.startswith("| 1000 | 0.128 |")


def test_a_word_more_is_a_row_and_a_bias_more():
    """The tables of both networks are one, 128 wide."""
    assert count_parameters("electra_small", 101) - count_parameters("electra_small", 100) == 129
