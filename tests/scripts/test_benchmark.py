"""The benchmark at the tiny size: every part runs, counts and reports; no figure is judged."""

import json
import sys

import numpy as np
import pytest
import torch
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder

import benchmark
import benchmark_sentences
from benchmark_contenders import Setting, build_ours, make_batches, make_dictionary
from benchmark_report import write_report
from benchmark_sentences import SHARES, draw_lengths, make_tokens, read_batches

CPU = torch.device("cpu")
SETTING = Setting("tiny", 32, 4, CPU, 100, 0.1)


@pytest.mark.slow
def test_all_parts_at_the_tiny_size(run_command, tmp_path):
    parts = ["step", "growth", "padding", "optimizer", "train"]
    output = run_command(
        *(sys.executable, "scripts/benchmark.py", "--out", tmp_path, "--sizes", "tiny@16"),
        *("--batch-size", 2, "--rounds", 1, "--vocab-size", 100, "--parts", *parts),
    ).output
    result = json.loads((tmp_path / "benchmark.json").read_text())
    assert set(parts) < set(result)
    (setting,) = result["step"]
    names = [row["name"] for row in setting["rows"]]
    assert names[:2] == ["fairseq_electra, float32", "fairseq_electra, bf16"]
    assert "fairseq's RoBERTa, float32" in names and len(names) == len(set(names))
    for row in setting["rows"]:
        assert row["slowest"] <= row["tokens_per_second"] <= row["fastest"]
        assert row["activation_bytes"] > 0 and row["state_bytes"] > 0
    assert "rounds, at most" in output and "train ..." in output
    assert (tmp_path / "benchmark.png").stat().st_size > 10_000
    table = (tmp_path / "benchmark.md").read_text()
    assert "tiny@16, batch 2" in table and "--adam-impl apex | not run" in table


def test_loading_is_measured_over_all_of_the_data(tmp_path, monkeypatch):
    import benchmark_pipeline

    monkeypatch.setattr(benchmark_pipeline, "LOADED_TOKENS", 24 * 50)
    rows = benchmark_pipeline.measure_loading(SETTING)
    assert [row["workers"] for row in rows] == [0, 1, 2]
    assert all(row["tokens_per_second"] > 0 for row in rows)


def test_flops_and_bytes_of_our_contender():
    """16 bytes a weight: the weight, its gradient and two means, in float32."""
    dictionary = make_dictionary(100)
    assert len(dictionary) == 100
    contender = build_ours(SETTING, dictionary)
    batch = make_batches(SETTING, dictionary, 1)[0]
    assert batch["net_input"]["src_tokens"].shape == (4, 32)
    contender.step(batch)
    weights = sum(parameter.numel() for parameter in contender.parameters)
    assert benchmark.count_state_bytes(contender) == 16 * weights
    row = benchmark.make_row(contender, [2.0, 1.0, 4.0], SETTING, peak=1e9)
    assert row["tokens_per_second"] == 4 * 32 / 2
    assert (row["slowest"], row["fastest"]) == (32, 128)
    assert row["share_of_peak"] == pytest.approx(64 * contender.flops_per_token / 1e9)


def test_recomputed_activations_are_not_kept():
    dictionary = make_dictionary(100)
    batch = make_batches(SETTING, dictionary, 1)[0]
    kept = [
        benchmark.count_activations(build_ours(SETTING, dictionary, **options), batch)
        for options in ({}, {"checkpoint_activations": True})
    ]
    assert kept[1] < kept[0] / 2


@pytest.mark.parametrize("share", SHARES)
def test_batches_of_a_given_share_of_padding(share):
    setting = Setting("tiny", 128, 64, CPU, 100, 0.0)
    lengths = draw_lengths(share, setting)
    tokens = make_tokens(lengths, 100)
    assert tokens.shape == (64, 128)
    assert tokens.eq(1).double().mean().item() == pytest.approx(share, abs=0.06)
    assert torch.equal(tokens.eq(2).sum(1), torch.ones(64, dtype=torch.long))
    assert (tokens[:, 0] == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sizes", "huge@128"], "give tiny, small, base or large"),
        (["--sizes", "small"], "small@128"),
        (["--sizes", "tiny@16", "--batch-size", "1", "2"], "2 --batch-size for 1 --sizes"),
        (["--parts", "all"], "invalid choice: 'all'"),
        (["--device", "cuda"], "torch sees no GPU; available: cpu"),
    ],
)
def test_bad_options(options, message, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        benchmark.parse_args(options)
    assert message in capsys.readouterr().err


def test_without_transformers_its_column_says_so(tmp_path):
    row = {
        "name": "fairseq_electra, float32",
        **dict.fromkeys(("tokens_per_second", "slowest", "fastest", "flops_per_token"), 10.0),
        "share_of_peak": 0.5,
        "state_bytes": 1,
        "activation_bytes": 1,
        "tokens": 8,
    }
    peaks = {"float32": 1e9, "bf16": 2e9}
    step = [{"setting": "tiny@16, batch 2", "peaks": peaks, "rows": [row], "rounds": 1}]
    write_report({"machine": {"device": "x"}, "command": "c", "step": step}, tmp_path)
    assert "| not run |" in (tmp_path / "benchmark.md").read_text()


def test_lengths_of_a_task_are_those_of_both_sentences(tmp_path):
    for name, lines in (("input0", ["w0 w1 w2", "w0"]), ("input1", ["w3", "w3 w4"])):
        (tmp_path / name).mkdir()
        builder = MMapIndexedDatasetBuilder(str(tmp_path / name / "train.bin"), dtype=np.uint16)
        for line in lines:
            builder.add_item(torch.tensor([4] * len(line.split()) + [2]))
        builder.finalize(str(tmp_path / name / "train.idx"))
    setting = Setting("tiny", 128, 2, CPU, 100, 0.0)
    (batch,) = read_batches(tmp_path, setting, 5)
    assert sorted(batch.ne(1).sum(1).tolist()) == [1 + 2 + 3, 1 + 4 + 2]  # <s>, a </s>, b </s>


def test_a_folder_without_a_task_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        benchmark_sentences.main([str(tmp_path)])
    assert "no input0/train.idx in" in capsys.readouterr().err
