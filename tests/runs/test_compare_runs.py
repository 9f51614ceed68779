"""compare_runs.py on small logs written here in the form of real ones of fairseq 0.12.

What a log file holds: the configuration on one line, the printed model, then a json line for each
logging interval, validation and epoch, repeated once for every epoch begun before.
"""

import json
import math
import sys
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import pytest
from matplotlib import pyplot

from commands import run
from fairseq_electra.__main__ import main
from fairseq_electra.hub import model_path
from fairseq_electra.runs.compare_runs import split_spec
from fairseq_electra.runs.measure_runs import (
    count_encoder_parameters,
    count_flops_per_token,
    measure_finetuning,
    measure_pretraining,
    name_kind,
)
from fairseq_electra.runs.plotting import plot_to
from fairseq_electra.runs.read_logs import find_log, parse_json_line, parse_simple_line, read_log

SCRIPT = Path(__file__).parents[2] / "scripts" / "compare_runs.py"
BITS = math.log(2)

CONFIG = (
    "{{'_name': None, 'common': {{'_name': None, 'seed': 1, 'log_format': 'json'}},"
    " 'checkpoint': {{'_name': None, 'best_checkpoint_metric': '{best}',"
    " 'maximize_best_checkpoint_metric': True}}, 'model': {model}, 'task': {{'_name': '{task}',"
    " 'data': '{data}', 'sample_break_mode': none, 'tokens_per_sample': 64, 'mask_prob': 0.15,"
    " 'seed': 1}}, 'criterion': {{'_name': '{task}'}}}}"
)
ELECTRA_MODEL = (
    "{'_name': 'electra_small', 'encoder_layers': 12, 'encoder_embed_dim': 256,"
    " 'encoder_ffn_embed_dim': 1024, 'encoder_attention_heads': 4, 'embedding_size': 128,"
    " 'generator_size': 0.25, 'generator_layers': None, 'generator_ffn_embed_dim': 128,"
    " 'untie_embeddings': False, 'max_positions': 512}"
)
ROBERTA_MODEL = (
    "Namespace(seed=1, task='masked_lm', lr=[0.001], adam_betas=(0.9, 0.999), mask_prob=0.15,"
    " tokens_per_sample=64, encoder_layers_to_keep=None, encoder_layers=2, encoder_embed_dim=32,"
    " encoder_ffn_embed_dim=64, encoder_attention_heads=2, _name='roberta_base')"
)
ELECTRA_PRINTED = """ElectraModel(
  (embeddings): Embeddings(
    (embed_tokens): Embedding(30522, 128)
    (embed_positions): Embedding(512, 128)
    (embed_token_types): Embedding(2, 128)
    (layer_norm): LayerNorm((128,), eps=1e-12, elementwise_affine=True, bias=True)
  )
)
num. shared model params: 14,461,051 (num. trained: 14,461,051)
"""
ROBERTA_PRINTED = """RobertaModel(
      (embed_tokens): Embedding(65, 32, padding_idx=1)
      (embed_positions): LearnedPositionalEmbedding(34, 32, padding_idx=1)
)
num. shared model params: 21,505 (num. trained: 21,505)
num. expert model params: 0 (num. trained: 0)
"""


def make_head(task, best="loss", data="data-bin", model=None):
    electra = task == "electra" or model is not None
    model = model or (ELECTRA_MODEL if electra else ROBERTA_MODEL)
    config = CONFIG.format(model=model, task=task, best=best, data=data)
    printed = ELECTRA_PRINTED if electra else ROBERTA_PRINTED
    return f"{config}\n{printed}Start iterating over samples\n"


def make_line(update, split="", **metrics):
    """A json line as fairseq's progress bar prints it: numbers as rounded text."""
    fields = {"epoch": 1} if split else {"epoch": 1, "update": 0.5}
    metrics = {**metrics, "num_updates": update}
    if not split or split == "train":
        metrics.setdefault("wpb", 100)
    texts = {f"{split}_{k}" if split else k: f"{v:g}" for k, v in metrics.items()}
    return json.dumps({**fields, **texts}) + "\n"


def write_log(folder, text):
    folder.mkdir(exist_ok=True)
    (folder / "train.log").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def electra(tmp_path):
    lines = [
        make_line(10, loss=40, gen_loss=9, disc_loss=0.6, disc_auc=0.5, wall=60),
        make_line(20, loss=35, gen_loss=8, disc_loss=0.5, disc_auc=0.6, wall=120),
        make_line(
            20, "valid", loss=36, gen_loss=8.5, disc_loss=0.55, disc_auc=0.625, masked_acc=0.25
        ),
        make_line(25, "train", loss=37, gen_loss=8.2, disc_loss=0.52, disc_auc=0.6, wall=150),
    ]
    return write_log(tmp_path / "electra", make_head("electra") + "".join(lines))


@pytest.fixture
def roberta(tmp_path):
    lines = [
        make_line(10, loss=6, ppl=64, wall=30),
        make_line(20, loss=5, ppl=32, wall=60),
        make_line(20, "valid", loss=4, ppl=16),
    ]
    return write_log(tmp_path / "roberta", make_head("masked_lm") + "".join(lines))


TWO_STAGES = ELECTRA_MODEL.replace("'max_positions'", "'mlm_updates': 12, 'max_positions'")
JUDGED = {"disc_loss": 0.6931, "disc_auc": 0, "disc_acc": 0, "replaced": 0, "sampled_acc": 0}


@pytest.fixture
def two_stages(tmp_path):
    """12 updates of masks, intervals of 8: the second holds the end of the first stage."""
    mixed = {**JUDGED, "disc_loss": 0.6, "disc_auc": 0.5}
    line = make_line(24, gen_loss=7, mlm_loss=1, disc_loss=0.5, disc_auc=0.6, wall=30)
    lines = [
        make_line(8, gen_loss=9, mlm_loss=8, **JUDGED, wall=10),
        make_line(8, "valid", gen_loss=8, mlm_loss=7, feature_dims=9, **JUDGED),
        make_line(16, gen_loss=8, mlm_loss=7.5, **mixed, wall=20),
        line.replace('"mlm_loss": "1"', '"mlm_loss": null'),
        make_line(
            24, "valid", gen_loss=6, disc_loss=0.4, disc_auc=0.7, disc_auc_context=0.625,
            feature_dims=11,
        ),
    ]  # fmt: skip
    head = make_head("electra", model=TWO_STAGES)
    return write_log(tmp_path / "two", head + "".join(lines))


def write_tagging(folder, *scores, data="swapped-bin", best="f1"):
    lines = [
        make_line(10 * epoch, "valid", loss=1, accuracy=0.9, f1=score)
        for epoch, score in enumerate(scores, start=1)
    ]
    return write_log(folder, make_head("electra_tagging", best, data) + "".join(lines))


def write_finetuning(folder, *accuracies, data="task-bin", best="accuracy"):
    lines = [make_line(10, loss=1, accuracy=50, wall=5)]
    for epoch, accuracy in enumerate(accuracies, start=1):
        line = make_line(10 * epoch, "valid", loss=1, accuracy=accuracy)
        lines.append(line.replace('"valid_loss"', '"valid_pred": [], "valid_loss"'))
    return write_log(folder, make_head("sentence_prediction", best, data) + "".join(lines))


def run_main(capsys, tmp_path, *options, draws=False):
    """Run the command, without its plot unless `draws`; stdout and table.json's rows by model."""
    with nullcontext() if draws else patch("fairseq_electra.runs.plot_runs.plot_runs"):
        main(["compare", *map(str, options), "--out", str(tmp_path / "out")])
    document = json.loads((tmp_path / "out" / "table.json").read_text(encoding="utf-8"))
    return capsys.readouterr().out, {row["model"]: row for row in document["rows"]}


def test_json_line_of_an_interval_and_of_a_validation():
    record = parse_json_line(
        '2026-01-01 00:00:00 | INFO | train_inner | {"epoch": 2, "update": 1.486, "loss": "5.253",'
        ' "wpb": "256", "num_updates": "55", "lr": "8.77193e-05", "train_wall": "0", "wall": "3"}'
    )
    assert record.split == "inner" and record.update == 55
    assert record.metrics["lr"] == pytest.approx(8.77193e-05)
    assert record.metrics["train_wall"] == 0 and record.metrics["wall"] == 3
    record = parse_json_line(
        '{"epoch": 2, "valid_loss": "nan", "valid_pred": [], "valid_bsz": null,'
        ' "valid_num_updates": "60", "valid_best_loss": "5.29"}'
    )
    assert record.split == "valid" and record.update == 60
    assert math.isnan(record.metrics["loss"]) and record.metrics["best_loss"] == 5.29
    assert "pred" not in record.metrics
    assert parse_json_line('{"epoch": 2, "train_loss": "0", "train_num_updates": null}') is None


def test_simple_lines():
    inner = parse_simple_line(
        "2026-01-01 00:00:00 | INFO | train_inner | epoch 001:     15 / 37 loss=5.799,"
        " ppl=55.69, wpb=256, num_updates=15, lr=8.77193e-05, gnorm=nan, wall=2\n"
    )
    assert (inner.split, inner.update) == ("inner", 15)
    assert inner.metrics["loss"] == 5.799 and inner.metrics["lr"] == pytest.approx(8.77193e-05)
    assert math.isnan(inner.metrics["gnorm"])
    valid = parse_simple_line(
        "epoch 001 | valid on 'valid' subset | loss 5.723 | ppl 52.84 | num_updates 20\n"
    )
    assert (valid.split, valid.update, valid.metrics["loss"]) == ("valid", 20, 5.723)
    train = parse_simple_line("epoch 001 | loss 5.8 | num_updates 37 | wall 2\n")
    assert (train.split, train.update, train.metrics["wall"]) == ("train", 37, 2)


def test_simple_log_gives_what_the_json_log_gives(tmp_path, roberta):
    lines = (
        "epoch 001:     10 / 40 loss=6, ppl=64, wpb=100, num_updates=10, wall=30\n"
        "epoch 001:     20 / 40 loss=5, ppl=32, wpb=100, num_updates=20, wall=60\n"
        "epoch 001 | valid on 'valid' subset | loss 4 | ppl 16 | num_updates 20\n"
        "epoch 001:     30 / 40 loss=5, ppl=32, wpb=100, num_updates=3"  # still being written
    )
    simple = write_log(tmp_path / "simple", make_head("masked_lm") + lines)
    runs = [measure_pretraining(read_log(find_log(p)), "masked_lm") for p in (simple, roberta)]
    assert runs[0].curves == runs[1].curves
    assert runs[0].log.seconds == runs[1].log.seconds == {10: 30, 20: 60}


def test_electra_row(tmp_path, capsys, electra):
    _, rows = run_main(capsys, tmp_path, electra)
    row = rows["electra"]
    assert row["parameters"] == 14_461_051
    assert row["updates"] == 25
    assert row["tokens"] == 2500
    assert row["hours"] == pytest.approx(150 / 3600)
    assert (row["mlm_loss"], row["disc_loss"], row["disc_auc"]) == (8.5, 0.55, 0.625)
    assert row["masked_acc"] == 0.25 and "disc_recall" not in row


def test_flops_agree_with_flops_py(tmp_path, capsys, electra):
    _, rows = run_main(capsys, tmp_path, electra)
    options = ["--tokens-per-sample", "64", "--mask-prob", "0.15"]
    main(["flops", *options, "--generator-ffn-embed-dim", "128", "--json"])
    per_token = json.loads(capsys.readouterr().out)["per_token"]
    assert rows["electra"]["flops_per_token"] == pytest.approx(per_token)
    assert rows["electra"]["flops"] == pytest.approx(2500 * per_token)


def test_first_stage_gives_no_curve_of_what_is_not_judged_yet(two_stages):
    run = measure_pretraining(read_log(find_log(two_stages)), "electra")
    assert run.mlm_updates == 12
    for metric, values in (("disc_auc", [0.6]), ("disc_loss", [0.5])):
        assert run.curves[metric, "train"] == ([24], values)
    assert run.curves["disc_auc", "held out"] == ([24], [0.7])
    assert not any(metric in ("replaced", "sampled_acc") for metric, _ in run.curves)
    assert run.curves["disc_auc_context", "held out"] == ([24], [0.625])
    assert run.curves["encoder_mlm_loss", "train"] == ([8, 16], [8, 7.5])
    assert run.curves["mlm_loss", "held out"] == ([8, 24], [8, 6])
    assert run.curves["feature_dims", "held out"] == ([8, 24], [9, 11])


def test_corrective_loss_is_of_the_second_stage_and_counted(tmp_path, capsys):
    model = TWO_STAGES.replace("'max_positions'", "'clm_weight': 1.0, 'max_positions'")
    lines = [
        make_line(12, gen_loss=9, mlm_loss=8, clm_loss=0, **JUDGED, wall=10),
        make_line(24, gen_loss=7, mlm_loss=0, clm_loss=5, disc_loss=0.5, disc_auc=0.6, wall=20),
    ]
    folder = write_log(tmp_path / "clm", make_head("electra", model=model) + "".join(lines))
    run = measure_pretraining(read_log(find_log(folder)), "electra")
    assert run.curves["clm_loss", "train"] == ([24], [5])
    assert run.curves["disc_auc", "train"] == ([24], [0.6])
    options = ["--tokens-per-sample", "64", "--mask-prob", "0.15", "--clm-weight", "1"]
    main(["flops", *options, "--generator-ffn-embed-dim", "128", "--json"])
    count = json.loads(capsys.readouterr().out)
    assert run.flops_per_token == pytest.approx(count["per_token"])
    assert run.mlm_flops_per_token == pytest.approx(count["mlm_per_token"])


def test_flops_of_two_stages_agree_with_flops_py(tmp_path, capsys, two_stages):
    _, rows = run_main(capsys, tmp_path, two_stages)
    options = ["--tokens-per-sample", "64", "--mask-prob", "0.15"]
    main(["flops", *options, "--generator-ffn-embed-dim", "128", "--json"])
    count = json.loads(capsys.readouterr().out)
    first, second = count["mlm_per_token"], count["per_token"]
    assert rows["two"]["flops"] == pytest.approx(1200 * first + 1200 * second)
    assert rows["two"]["mlm_flops_per_token"] == pytest.approx(first)
    run = measure_pretraining(read_log(find_log(two_stages)), "electra")
    expected = [600 * first, 1200 * first, 1200 * first + 800 * second]
    assert run.flops_at([6, 12, 20]).tolist() == pytest.approx(expected)
    _, rows = run_main(capsys, tmp_path, two_stages, "--flops-per-token", "two=2e6")
    assert rows["two"]["flops"] == 2e6 * 2400


@pytest.mark.parametrize("is_there", [True, False])
def test_flops_of_a_given_frozen_generator_agree_with_flops_py(tmp_path, capsys, is_there):
    checkpoint = model_path("electra_tiny_en") / "checkpoint.pt"
    given = checkpoint if is_there else tmp_path / "gone.pt"
    options = f"'generator_from': '{given}', 'freeze_generator': True, 'generator_layers'"
    model = ELECTRA_MODEL.replace("_ffn_embed_dim': 128", "_ffn_embed_dim': None")
    head = make_head("electra", model=model.replace("'generator_layers'", options))
    run = write_log(tmp_path / "frozen", head + make_line(10, gen_loss=9, disc_loss=0.6))
    if not is_there:
        with pytest.raises(SystemExit, match=r"generator's sizes .*gone\.pt: no such checkpoint"):
            run_main(capsys, tmp_path, run)
        return
    _, rows = run_main(capsys, tmp_path, run)
    options = ["--tokens-per-sample", "64", "--mask-prob", "0.15", "--freeze-generator"]
    main(["flops", *options, "--generator-from", str(given), "--json"])
    per_token = json.loads(capsys.readouterr().out)["per_token"]
    assert rows["frozen"]["flops_per_token"] == pytest.approx(per_token)


def test_row_of_two_stages(tmp_path, capsys, two_stages):
    text, rows = run_main(capsys, tmp_path, two_stages)
    row = rows["two"]
    assert (row["mlm_updates"], row["mlm_loss"], row["encoder_mlm_loss"]) == (12, 6, 7)
    assert (row["disc_auc"], row["disc_auc_context"], row["feature_dims"]) == (0.7, 0.625, 11)
    assert "| AUC from context alone " in text and "| 0.625 " in text
    assert "| effective dimensions of the features " in text and "| 11.0 " in text
    assert "less the mean logit of its token" in text


def test_electra_mlm_is_a_masked_lm_with_embeddings_of_its_own_width(tmp_path, capsys):
    lines = make_line(10, loss=6, ppl=64) + make_line(10, "valid", loss=4, ppl=16)
    model = ELECTRA_MODEL.replace("electra_small", "electra_mlm_small")
    log = read_log(
        find_log(write_log(tmp_path / "mlm", make_head("masked_lm", model=model) + lines))
    )
    assert name_kind(log) == "masked_lm"
    main(["flops", "--tokens-per-sample", "64", "--mask-prob", "0.15", "--json"])
    expected = json.loads(capsys.readouterr().out)["electra_mlm_per_token"]
    assert count_flops_per_token(log, "masked_lm") == (pytest.approx(expected), None)
    _, rows = run_main(capsys, tmp_path, tmp_path / "mlm")
    assert rows["mlm"]["mlm_loss"] == pytest.approx(4 * BITS)
    assert "mlm_updates" not in rows["mlm"] and "feature_dims" not in rows["mlm"]


def test_roberta_row_is_in_nats(tmp_path, capsys, roberta):
    text, rows = run_main(capsys, tmp_path, f"RoBERTa={roberta}")
    assert rows["RoBERTa"]["mlm_loss"] == pytest.approx(4 * BITS)
    assert "converted from fairseq's bits to nats" in text
    assert "| 2.773" in text


def test_encoder_parameters_are_those_of_the_modules(electra):
    from fairseq_electra.modules.encoder import Embeddings, Encoder, EncoderSize

    encoder = Encoder(EncoderSize(12, 256, 1024, 4), 128, 0.1, 0.1, "fused")
    modules = (Embeddings(30522, 128, 512), encoder)
    built = sum(parameter.numel() for module in modules for parameter in module.parameters())
    assert count_encoder_parameters(read_log(find_log(electra))) == built


def test_encoder_parameters_of_roberta_leave_out_its_head(roberta):
    # what fairseq printed for these sizes, less Linear(32, 32), LayerNorm(32) and 65 biases
    assert count_encoder_parameters(read_log(find_log(roberta))) == 21_505 - (1056 + 64 + 65)


def test_repeated_lines_count_once(tmp_path, roberta):
    text = (roberta / "train.log").read_text(encoding="utf-8")
    doubled = "".join(line * (1 + line.startswith('{"epoch"')) for line in text.splitlines(True))
    log = read_log(find_log(write_log(tmp_path / "doubled", doubled)))
    assert log.splits == read_log(find_log(roberta)).splits


def test_restart_replaces_what_it_trains_again_and_adds_its_time(tmp_path):
    head = make_head("masked_lm")
    first = [make_line(u, loss=9 - u / 10, ppl=2, wall=10 * u) for u in (10, 20, 30, 35)]
    # restarted from a checkpoint at update 20: fairseq's wall starts at 0 again
    second = [make_line(u, loss=1, ppl=2, wall=10 * (u - 20)) for u in (30, 40)]
    log = read_log(
        find_log(write_log(tmp_path / "run", head + "".join(first) + head + "".join(second)))
    )
    assert sorted(log.splits["inner"]) == [10, 20, 30, 40]
    assert log.splits["inner"][30]["loss"] == 1
    assert log.seconds == {10: 100, 20: 200, 30: 300, 40: 400}


def test_tokens_follow_the_batch_size_of_each_interval(tmp_path):
    lines = make_line(10, loss=1, ppl=2, wpb=100) + make_line(30, loss=1, ppl=2, wpb=50)
    lines += make_line(40, "valid", loss=1, ppl=2)
    log = read_log(find_log(write_log(tmp_path / "run", make_head("masked_lm") + lines)))
    run = measure_pretraining(log, "masked_lm")
    assert run.tokens_at([5, 10, 30, 40]).tolist() == [500, 1000, 2000, 2500]


def test_finetuning_is_the_best_validation_and_the_median_of_seeds(tmp_path, capsys, electra):
    seeds = [
        write_finetuning(tmp_path / f"ft{i}", *a)
        for i, a in enumerate([(70, 80, 60), (90,), (50, 55)])
    ]
    text, rows = run_main(
        capsys,
        tmp_path,
        f"ELECTRA={electra}+{seeds[0]}+{seeds[1]}+{seeds[2]}",
        f"untrained=+{seeds[2]}",
    )
    assert rows["ELECTRA"]["finetuned"] == [
        {
            "task": "task-bin",
            "metric": "accuracy",
            "median": 80,
            "lowest": 55,
            "highest": 90,
            "scores": [80, 90, 55],
        }
    ]
    assert rows["ELECTRA"]["mlm_loss"] == 8.5
    assert rows["untrained"]["finetuned"][0]["median"] == 55 and "updates" not in rows["untrained"]
    assert "| fine-tuned task-bin accuracy (%)" in text and "80.0 (55.0-90.0 of 3)" in text


def find_cells(text, title):
    """The cells of a row of the table."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    return next(row[1:] for row in rows if row and row[0] == title)


def test_each_task_has_a_line(tmp_path, capsys, electra):
    sentences = write_finetuning(tmp_path / "library", 70, data="data/library-bin")
    seeds = [write_tagging(tmp_path / f"tag{i}", 0.25, f1) for i, f1 in enumerate((0.5, 0.75))]
    runs = (f"E={electra}+{sentences}+{seeds[0]}+{seeds[1]}", f"untrained=+{seeds[0]}")
    text, rows = run_main(capsys, tmp_path, *runs)
    assert find_cells(text, "fine-tuned library-bin accuracy (%)") == ["70.0", "-"]
    both = ["62.5 (50.0-75.0 of 2)", "50.0"]
    assert find_cells(text, "fine-tuned swapped-bin f1 (%)") == both
    assert [part["task"] for part in rows["E"]["finetuned"]] == ["library-bin", "swapped-bin"]
    text, _ = run_main(capsys, tmp_path, *runs, "--task", "swapped-bin=swapped words, F1 (a=b)")
    assert find_cells(text, "fine-tuned swapped words, F1 (a=b) (%)") == both
    assert find_cells(text, "fine-tuned library-bin accuracy (%)") == ["70.0", "-"]
    for wrong in ("swapped=words", "swapped-bin"):
        with pytest.raises(SystemExit, match="NAME is one of library-bin, swapped-bin"):
            main(["compare", *runs, "--out", str(tmp_path / "out"), "--task", wrong])


def test_tags_without_entities_have_an_accuracy(tmp_path):
    log = read_log(find_log(write_tagging(tmp_path / "pos", 0.5, best="accuracy")))
    tagging = measure_finetuning(log)
    assert (tagging.task, tagging.metric, tagging.score) == ("swapped-bin", "accuracy", 90)


def test_score_is_the_metric_that_chose_the_checkpoint(tmp_path):
    line = make_line(10, "valid", loss=1, accuracy=80, mcc=42.5)
    head = make_head("sentence_prediction", "mcc")
    best = measure_finetuning(read_log(find_log(write_log(tmp_path / "run", head + line))))
    assert (best.metric, best.score) == ("mcc", 42.5)


def test_unfinished_last_line_is_no_damage_and_a_broken_one_is_noted(tmp_path, roberta, capsys):
    text = (roberta / "train.log").read_text(encoding="utf-8")
    growing = write_log(tmp_path / "growing", text + '{"epoch": 1, "update": 0.9, "lo')
    assert read_log(find_log(growing)).notes == []
    broken = text + '{"epoch": 1, "upd\n' + make_line(30, loss=3, ppl=8)
    output, rows = run_main(capsys, tmp_path, write_log(tmp_path / "broken", broken))
    assert "train.log: 1 damaged lines were skipped" in output
    assert rows["broken"]["updates"] == 30


def test_nan_is_said_and_kept_out_of_the_json_table(tmp_path, capsys, electra):
    lines = make_line(40, gen_loss=math.nan, disc_loss=math.nan, wall=200) + make_line(
        40, "valid", gen_loss=math.nan, disc_loss=math.nan, disc_auc=0.5
    )
    with (electra / "train.log").open("a", encoding="utf-8") as log:
        log.write(lines)
    output, rows = run_main(capsys, tmp_path, electra, draws=True)
    assert "gen_loss is NaN from update 40 on" in output
    assert "mlm_loss" not in rows["electra"] and rows["electra"]["disc_auc"] == 0.5


def test_log_without_sizes_needs_flops_per_token(tmp_path, capsys):
    bare = write_log(tmp_path / "bare", make_line(10, loss=6, ppl=64, wall=30))
    with pytest.raises(SystemExit, match=r"encoder_layers; give --flops-per-token bare=NUMBER"):
        main(["compare", str(bare), "--out", str(tmp_path / "out")])
    output, rows = run_main(capsys, tmp_path, bare, "--x", "hours")
    assert "bare: no FLOPs" in output and "flops" not in rows["bare"]
    assert "bare: no validation yet" in output
    _, rows = run_main(capsys, tmp_path, bare, "--flops-per-token", "bare=2e6")
    assert rows["bare"]["flops"] == 2e6 * 1000


def test_bad_logs_are_named_with_the_way_out(tmp_path, electra, roberta):
    def stop(*runs):
        with pytest.raises(SystemExit) as error:
            main(["compare", *map(str, runs), "--out", str(tmp_path / "out")])
        assert not (tmp_path / "out").exists()
        return str(error.value)

    empty = write_log(tmp_path / "empty", "")
    assert "train.log: an empty log" in stop(empty)
    started = write_log(tmp_path / "started", make_head("electra"))
    assert "no metrics in its 11 lines" in stop(started)
    other = make_head("translation") + make_line(1, loss=1, nll_loss=1)
    assert "a log of task translation" in stop(write_log(tmp_path / "other", other))
    untested = make_head("sentence_prediction") + make_line(1, loss=1, accuracy=1)
    assert "no held-out accuracy" in stop(write_log(tmp_path / "untested", untested))
    assert "no such file or folder" in stop(tmp_path / "missing")
    (tmp_path / "bare").mkdir()
    assert "train with --log-format json --log-file" in stop(tmp_path / "bare")
    assert "two pre-training runs in one RUN" in stop(f"a={electra}+{roberta}")
    assert "two runs of the same name" in stop(f"a={electra}", f"a={roberta}")
    first = write_finetuning(tmp_path / "ft1", 50, data="old/rte")
    second = write_finetuning(tmp_path / "ft2", 50, data="new/rte")
    assert "different data of one name: old/rte, new/rte" in stop(f"a={first}+{second}")
    (electra / "second.log").write_text("", encoding="utf-8")
    assert "several logs (second.log, train.log)" in stop(electra)


def test_log_that_is_not_utf8_is_still_read(tmp_path, roberta):
    path = roberta / "train.log"
    path.write_bytes(b"\xff\xfe warning in another encoding\n" + path.read_bytes())
    assert name_kind(read_log(path)) == "masked_lm"


def test_names_of_runs(tmp_path):
    assert split_spec(f"A={tmp_path}+x") == ("A", [tmp_path, Path("x")])
    assert split_spec("runs/electra/")[0] == "electra"
    assert split_spec("untrained=+ft") == ("untrained", [Path("ft")])


@pytest.mark.parametrize("x", ["flops", "hours", "updates"])
def test_plot_is_a_readable_png(tmp_path, capsys, electra, roberta, x):
    run_main(capsys, tmp_path, electra, roberta, "--x", x, draws=True)
    height, width, _ = pyplot.imread(tmp_path / "out" / "curves.png").shape
    assert width > 2 * 700 and height > 400  # two panels: losses of both, AUC of one


def test_without_matplotlib_there_is_a_table_and_a_line_on_what_to_install(
    tmp_path, capsys, monkeypatch, electra, roberta
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "fairseq_electra.runs.plot_runs", raising=False)
    main(["compare", str(electra), str(roberta), "--out", str(tmp_path / "out")])
    printed, told = capsys.readouterr()
    assert printed.startswith("| ") and "discriminator AUC" in printed
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["table.json", "table.md"]
    assert told == (
        f"no {tmp_path / 'out' / 'curves.png'}: matplotlib is not installed: "
        "pip install 'fairseq_electra[plot]'\n"
    )


def test_another_module_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(ModuleNotFoundError), plot_to(tmp_path / "curves.png"):
        import no_such_module  # noqa: F401 (it is not there)


@pytest.fixture
def drawn(monkeypatch):
    """The figure that plot_runs drew, instead of its file."""
    figures = []
    monkeypatch.setattr("fairseq_electra.runs.plot_runs.pyplot.close", figures.append)
    yield figures
    monkeypatch.undo()
    for figure in figures:
        pyplot.close(figure)


def find_area(figure, title):
    return next(area for area in figure.axes if area.get_title().startswith(title))


def test_axes_begin_where_the_data_is(tmp_path, capsys, drawn, two_stages):
    """No zeros of the first stage, and an AUC from 0.6 to 0.7 fills its panel."""
    run_main(capsys, tmp_path, two_stages, "--x", "updates", draws=True)
    area = find_area(drawn[0], "Discriminator AUC")
    values = [value for line in area.lines for value in line.get_ydata() if len(line.get_xdata())]
    assert min(v for v in values if v not in (0, 0.5)) == 0.6  # lines across the panel are at these
    bottom, top = area.get_ylim()
    assert 0.58 < bottom < 0.6 and 0.7 < top < 0.72
    dashed = [line for line in area.lines if line.get_linestyle() == "--"]
    assert [0.625] in [list(line.get_ydata()) for line in dashed]


def test_the_second_stage_is_marked_where_it_begins(tmp_path, capsys, drawn, two_stages, electra):
    runs = (f"a={two_stages}", f"b={two_stages}", electra)
    run_main(capsys, tmp_path, *runs, "--x", "updates", draws=True)
    for area in drawn[0].axes:
        if area.get_visible():
            upright = [line for line in area.lines if list(line.get_ydata()) == [0, 1]]
            assert [list(line.get_xdata()) for line in upright] == [[12, 12]]
            assert [text.get_text() for text in area.texts] == ["second stage"]


def test_tasks_are_grouped_bars_with_their_scores(tmp_path, capsys, drawn):
    runs = [
        f"{name}=+{write_finetuning(tmp_path / f'{name}-s', first, data='library-bin')}"
        f"+{write_tagging(tmp_path / f'{name}-t', second)}"
        for name, first, second in (("a", 70, 0.5), ("b", 65, 0.625))
    ]
    run_main(capsys, tmp_path, *runs, "--task", "swapped-bin=swapped words", draws=True)
    area = find_area(drawn[0], "Fine-tuned")
    assert [bar.get_height() for bar in area.patches] == [70, 65, 50, 62.5]
    assert [text.get_text() for text in area.texts] == ["70.0", "65.0", "50.0", "62.5"]
    names = [label.get_text() for label in area.get_xticklabels()]
    assert names == ["library-bin accuracy", "swapped words"]
    assert area.get_ylim()[0] == 40
    places = [bar.get_x() + bar.get_width() / 2 for bar in area.patches]
    assert [round(place) for place in places] == [0, 0, 1, 1]


def test_command(tmp_path, electra, roberta):
    tuned = write_finetuning(tmp_path / "ft", 75)
    out = tmp_path / "out"
    command = [sys.executable, SCRIPT, f"E={electra}+{tuned}", f"R={roberta}", "--out", out]
    printed = run(*command).output
    assert printed == (out / "table.md").read_text(encoding="utf-8")
    assert printed.splitlines()[0].split() == ["|", "|", "E", "|", "R", "|"]
    assert sorted(path.name for path in out.iterdir()) == ["curves.png", "table.json", "table.md"]
