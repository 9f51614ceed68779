"""electra_decay against the authors' schedule and by hand."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairseq_electra.optim.electra_adam import ElectraAdam, ElectraAdamConfig
from fairseq_electra.optim.electra_decay import (
    ElectraDecayConfig,
    ElectraDecaySchedule,
    rate_at,
)

ORACLE = np.load(Path(__file__).parent / "oracle" / "lr_schedules.npz")


def make_schedule(**options):
    params = [torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))]
    optimizer = ElectraAdam(ElectraAdamConfig(lr=[1.0]), params)
    defaults = {"lr": [1e-3], "warmup_updates": 10, "max_update": 50}
    return ElectraDecaySchedule(ElectraDecayConfig(**{**defaults, **options}), optimizer)


@pytest.mark.parametrize(
    ("key", "steps", "options"),
    [
        ("lr1e-3_T50_W10", "steps", {}),
        ("lr1e-3_T50_W10_power2", "steps", {"power": 2.0}),
        ("lr1e-3_T50_W0", "steps", {"warmup_updates": 0}),
        (
            "lr5e-4_T1000000_W10000",
            "big_steps",
            {"lr": [5e-4], "warmup_updates": 10000, "max_update": 10**6},
        ),
    ],
)
def test_follows_the_authors_schedule(key, steps, options):
    schedule = make_schedule(**options)
    steps = ORACLE[steps].tolist()
    ours = np.array([schedule.step_update(step) for step in steps])
    theirs = ORACLE[key].astype(np.float64)
    if schedule.cfg.warmup_updates == 0:
        assert np.isnan(theirs[0])
        assert ours[0] == schedule.cfg.lr[0]
        ours, theirs = ours[1:], theirs[1:]
    # They compute 1 - t / T in float32, so its error is half a unit of 1, times the peak.
    np.testing.assert_allclose(ours, theirs, rtol=4e-7, atol=6e-8 * schedule.cfg.lr[0])


def test_by_hand():
    assert rate_at(0, peak=1.0, warmup=10, total=100) == 0.0
    assert rate_at(5, peak=1.0, warmup=10, total=100) == pytest.approx(0.95 * 0.5)
    assert rate_at(10, peak=1.0, warmup=10, total=100) == pytest.approx(0.9)
    assert rate_at(50, peak=2.0, warmup=10, total=100, power=2.0) == pytest.approx(2 * 0.25)
    assert rate_at(100, peak=1.0, warmup=10, total=100, power=0.0) == 0.0
    assert rate_at(101, peak=1.0, warmup=10, total=100, power=0.5) == 0.0


@given(
    update=st.integers(0, 2000),
    warmup=st.integers(0, 2000),
    total=st.integers(1, 1000),
    power=st.floats(0, 3),
)
def test_the_rate_stays_between_zero_and_the_peak(update, warmup, total, power):
    assert 0.0 <= rate_at(update, 0.5, warmup, total, power) <= 0.5


def test_the_first_update_has_rate_zero_and_every_group_gets_it():
    schedule = make_schedule()
    assert [group["lr"] for group in schedule.optimizer.param_groups] == [0.0, 0.0]
    assert schedule.step_update(10) == pytest.approx(8e-4)
    assert [g["lr"] for g in schedule.optimizer.param_groups] == [pytest.approx(8e-4)] * 2


def test_the_total_can_differ_from_the_run():
    schedule = make_schedule(max_update=50, total_num_update=100.0)
    assert schedule.step_update(50) == pytest.approx(5e-4)


def test_epochs_and_validation_do_not_matter():
    schedule = make_schedule()
    rate = schedule.step_update(7)
    schedule.step_begin_epoch(3)
    schedule.step(3, val_loss=2.0)
    assert schedule.optimizer.get_lr() == rate


def test_resumes_where_it_was():
    first, second = make_schedule(), make_schedule()
    first.step(1, val_loss=2.0)
    second.load_state_dict(first.state_dict())
    assert second.best == 2.0
    assert second.step_update(30) == first.step_update(30)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"lr": [1e-3, 1e-4]}, "--lr takes one value"),
        ({"max_update": 0}, "give --max-update"),
        ({"total_num_update": -5.0}, "give --max-update"),
        ({"warmup_updates": -1}, "--warmup-updates must be 0 or more"),
        ({"power": -1.0}, "--power must be 0 or more"),
    ],
)
def test_a_bad_option_is_named(options, named):
    with pytest.raises(ValueError, match=named):
        make_schedule(**options)


def test_a_run_shorter_than_its_warm_up_is_told(caplog):
    with caplog.at_level(logging.WARNING):
        make_schedule(warmup_updates=49)
        assert not caplog.records
        make_schedule(warmup_updates=50)
    assert "--warmup-updates 50" in caplog.text
