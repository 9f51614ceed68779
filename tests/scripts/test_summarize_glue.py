"""Tables of seeds and tasks."""

import json

import pytest

from scripts.glue.summary import format_table, summarize


def write(folder, task, majority, *seeds):
    (folder / task).mkdir(parents=True)
    (folder / task / "majority.json").write_text(json.dumps(majority))
    for number, scores in enumerate(seeds, start=1):
        (folder / task / f"seed-{number}").mkdir()
        (folder / task / f"seed-{number}" / "scores.json").write_text(json.dumps(scores))


@pytest.fixture
def runs(tmp_path):
    """CoLA of three seeds, MNLI of one."""
    cola = [{"CoLA": {"mcc": mcc, "accuracy": 70.0}} for mcc in (10.0, 14.0, 30.0)]
    write(tmp_path / "a", "CoLA", {"CoLA": {"mcc": 0.0, "accuracy": 69.1}}, *cola)
    mnli = {"MNLI-m": {"accuracy": 60.0}, "MNLI-mm": {"accuracy": 90.0}}
    guess = {"MNLI-m": {"accuracy": 35.0}, "MNLI-mm": {"accuracy": 36.0}}
    write(tmp_path / "a", "MNLI", guess, mnli)
    write(tmp_path / "b", "MNLI", guess, mnli)
    return tmp_path


def test_median_best_range_by_hand(runs):
    mcc = summarize(runs / "a")["CoLA"]["mcc"]
    assert (mcc["median"], mcc["best"], mcc["lowest"], mcc["majority"]) == (14.0, 30.0, 10.0, 0.0)
    assert mcc["sd"] == pytest.approx((((8**2) + 4**2 + 12**2) / 2) ** 0.5)


def test_the_table_and_its_mean(runs):
    table = format_table({"ours": summarize(runs / "a")})
    assert "| CoLA | mcc | 0.0 | 14.0 (10.0 to 30.0, sd 10.6 of 3) |" in table
    assert "| MNLI-mm | accuracy | 36.0 | 90.0 |" in table
    # the mismatched set does not count: (14 + 60) / 2, (30 + 60) / 2, (0 + 35) / 2
    assert "| mean of medians | first of each | 17.5 | 37.0 |" in table
    assert "| mean of best | first of each | 17.5 | 45.0 |" in table


def test_models_are_compared_on_what_all_have(runs):
    table = format_table({"a": summarize(runs / "a"), "b": summarize(runs / "b")})
    assert "CoLA" not in table
    assert "| task | metric | majority | a | b |" in table
    assert "| mean of medians | first of each | 35.0 | 60.0 | 60.0 |" in table


def test_a_folder_without_runs_is_named(tmp_path):
    with pytest.raises(ValueError, match="no finished run"):
        summarize(tmp_path)
