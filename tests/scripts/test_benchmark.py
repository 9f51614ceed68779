"""The benchmark at the tiny size: every part runs, counts and reports; no figure is judged."""

import json
import sys

import numpy as np
import pytest
import torch
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder

from scripts.benchmark import contenders as benchmark_contenders
from scripts.benchmark import pipeline as benchmark_pipeline
from scripts.benchmark import run as benchmark
from scripts.benchmark import sentences as benchmark_sentences
from scripts.benchmark.contenders import (
    Setting,
    build_ours,
    build_roberta,
    list_contenders,
    make_batches,
    make_dictionary,
)
from scripts.benchmark.report import write_report
from scripts.benchmark.sentences import SHARES, draw_lengths, make_tokens, read_batches

CPU = torch.device("cpu")
SETTING = Setting("tiny", 32, 4, CPU, 100, 0.1)


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param(("step", "optimizer", "train"), marks=pytest.mark.campaign),
        pytest.param(("step", "growth", "padding"), marks=pytest.mark.campaign),
    ],
)
def test_parts_at_the_tiny_size(run_command, tmp_path, parts):
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
    assert "rounds, about" in output and f"{parts[-1]} ..." in output
    assert (tmp_path / "benchmark.png").stat().st_size > 10_000
    table = (tmp_path / "benchmark.md").read_text()
    assert "tiny@16, batch 2" in table
    assert ("--adam-impl apex | not run" in table) == ("optimizer" in parts)


def test_loading_is_measured_over_all_of_the_data(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark_pipeline.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(benchmark_pipeline, "LOADED_TOKENS", 24 * 50)
    rows = benchmark_pipeline.measure_loading(SETTING)
    assert [row["workers"] for row in rows] == [0, 1, 2]
    assert all(row["tokens_per_second"] > 0 for row in rows)


@pytest.mark.campaign
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
    row = benchmark.make_row(contender, [2.0, 1.0, 4.0], SETTING)
    assert row["tokens_per_second"] == 4 * 32 / 2
    assert (row["slowest"], row["fastest"]) == (32, 128)
    assert row["flops_per_second"] == pytest.approx(64 * contender.flops_per_token)


@pytest.mark.campaign
@pytest.mark.parametrize("half", ["bf16", "fp16"])
def test_contenders_in_half_precision(half):
    """As fairseq's --bf16 and --fp16: 2 bytes a weight and its gradient, 16 in the optimizer."""
    dictionary = make_dictionary(100)
    batch = make_batches(SETTING, dictionary, 1)[0]
    contenders = [build_ours(SETTING, dictionary, half)]
    if half == "bf16":  # fairseq asks for the GPU's number where it joins weights in fp16
        contenders += build_roberta(SETTING, dictionary, half)
    for contender in contenders:
        before = [parameter.clone() for parameter in contender.parameters]
        contender.step(batch)
        assert contender.name.endswith(f"--{half}") and contender.dtype == half
        assert {p.dtype for p in contender.parameters} == {benchmark_contenders.HALF[half]}
        weights = sum(parameter.numel() for parameter in contender.parameters)
        assert benchmark.count_state_bytes(contender) == pytest.approx(20 * weights, rel=1e-3)
        changed = [not torch.equal(*pair) for pair in zip(before, contender.parameters)]
        assert sum(changed) > len(changed) / 2


def test_a_contender_that_lacks_memory_is_left_out(capsys):
    def lack(batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    dictionary = make_dictionary(100)
    batches = make_batches(SETTING, dictionary, 1)
    ours = build_ours(SETTING, dictionary)
    large = ours._replace(name="large", step=lack)
    rows = benchmark.measure_group([large, ours], SETTING, batches, 1, {})
    assert rows[0] == {"name": "large", "note": "not run: not enough memory"}
    assert rows[1]["tokens_per_second"] > 0
    assert "large: not enough memory" in capsys.readouterr().out


def test_what_records_graphs_is_measured_alone(monkeypatch):
    monkeypatch.setattr(benchmark_contenders, "compile_obstacle", lambda mode, device: None)
    monkeypatch.setattr(benchmark_contenders, "HAS_TRANSFORMERS", False)
    setting = Setting("tiny", 32, 4, torch.device("cuda"), 100, 0.1)
    groups, notes = list_contenders(setting, make_dictionary(100), compiled=True)
    assert [len(group) for group in groups] == [5 + 4 + 2, 1, 1, 1, 1]
    assert notes == dict.fromkeys(
        ("Hugging Face eager", "Hugging Face sdpa"), "not run: transformers is not installed"
    )


def test_rates_of_a_gpu_are_read():
    log = "".join(
        f'2026-01-01 | INFO | train_inner | {{"loss": "1", "wps": "{rate}"}}\n'
        for rate in ("0", "1.23457e+06", "812.5")
    )
    assert benchmark_pipeline.read_rates(log) == [0, 1234570, 812.5]


def test_layer_norm_without_compiler_and_apex(monkeypatch):
    monkeypatch.setattr(benchmark_pipeline, "compile_obstacle", lambda mode, device: "no compiler")
    rows = benchmark_pipeline.measure_layer_norm(SETTING, 1)
    assert rows[0]["name"] == "torch" and rows[0]["milliseconds"] > 0
    assert rows[1] == {"name": "torch, compiled", "note": "not run: no compiler"}
    assert rows[2]["name"] == "Apex" and rows[2]["note"].startswith("not run: ")


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
        (["--batch-size", "2"], "--batch-size needs --sizes"),
        (["--parts", "all"], "invalid choice: 'all'"),
        (["--device", "cuda"], "torch sees no GPU; available: cpu"),
    ],
)
def test_bad_options(options, message, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        benchmark.parse_args(options)
    assert message in capsys.readouterr().err


def test_without_transformers_its_rows_and_its_column_say_so(tmp_path):
    row = {
        "name": "fairseq_electra, float32",
        **dict.fromkeys(("tokens_per_second", "slowest", "fastest", "flops_per_second"), 10.0),
        "share_of_peak": 0.5,
        "state_bytes": 1,
        "activation_bytes": 1,
        "tokens": 8,
    }
    peaks = {"float32": 1e9, "bf16": 2e9}
    missing = {"name": "Hugging Face sdpa", "note": "not run: transformers is not installed"}
    step = [{"setting": "tiny@16, batch 2", "peaks": peaks, "rows": [row, missing], "rounds": 1}]
    write_report({"machine": {"device": "x"}, "command": "c", "step": step}, tmp_path)
    table = (tmp_path / "benchmark.md").read_text()
    assert "| not run |" in table
    assert "| Hugging Face sdpa | not run: transformers is not installed |" in table


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
