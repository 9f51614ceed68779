"""reproduce.sh: the plan spends equal FLOPs, stages resume, the report says what has not run."""

import json
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from fairseq.data import indexed_dataset

import glue_files
from commands import run
from fairseq_electra.recipes import choose_mlm_updates, find_recipe
from scripts.evidence.plan import count_cost, plan_runs
from scripts.evidence.report import average_scores, write_report
from scripts.evidence.run import main
from scripts.evidence.stages import Stage, Stages
from tiny import ROOT

WORDS = ["the", "cat", "dog", "sees", "a", "bird", "and", "old", "fish", "near", "two", "trees"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "dict.txt").write_text("".join(f"w{n} 1\n" for n in range(2995)))
    return folder


def test_runs_of_a_budget_cost_the_same(data):
    recipe = find_recipe("small")
    runs = plan_runs("small", data, recipe, [3.1, 1.6], ablations=True)
    assert [run.name for run in runs] == [
        *("electra-1.6", "roberta-1.6", "electra-3.1", "roberta-3.1"),
        *("generator-1-2-1.6", "generator-1-1.6", "untied-embeddings-1.6"),
        *("disc-weight-10-1.6", "loss-on-picked-tokens-1.6"),
    ]
    by_name = {run.name.removesuffix("-1.6") if run.is_ablation else run.name: run for run in runs}
    assert by_name["electra-1.6"].updates == 16_000
    assert by_name["disc-weight-10"].updates == by_name["loss-on-picked-tokens"].updates == 16_000
    count = count_cost("small", data, recipe)
    usual = count["per_token"] * 16_000
    roberta = count["roberta_per_token"] * by_name["roberta-1.6"].updates
    assert roberta == pytest.approx(usual, abs=count["roberta_per_token"] / 2)
    for name in ("generator-1-2", "generator-1", "untied-embeddings"):
        cost = count_cost("small", data, recipe, by_name[name].options)["per_token"]
        assert cost * by_name[name].updates == pytest.approx(usual, abs=cost / 2), name
    assert by_name["generator-1"].updates < by_name["generator-1-2"].updates < 16_000


def test_tiny_s_arms_cost_the_same_though_their_settings_differ(data):
    """The recipe masks 30 %, the paper 15 %; a third of ELECTRA's updates are MLM."""
    recipe = find_recipe("tiny", "minutes")
    runs = plan_runs("tiny", data, recipe, [100, 200], ablations=False, again=[100])
    names = ["electra", "electra-paper", "mlm", "roberta"]
    assert [run.name for run in runs] == [
        *(f"{name}-100" for name in names),
        *(f"second-{name}-100" for name in names),
        *(f"{name}-200" for name in names),
    ]
    assert [run.seed for run in runs] == [1] * 4 + [2] * 4 + [1] * 4
    # stages of fine-tuning are NAME-seed-SEED: they must not be taken for those of another run
    starts = tuple(f"{run.name}-seed-" for run in runs)
    assert not any(run.name.startswith(starts) for run in runs)
    electra, plain, mlm, roberta = runs[:4]
    whole = count_cost("tiny", data, recipe, (), electra.updates, electra.updates // 3)
    tokens = recipe.batch * recipe.tokens
    paper = count_cost("tiny", data, find_recipe("tiny", paper=True))
    for arm, each in (
        (plain, paper["per_token"]),
        (mlm, whole["electra_mlm_per_token"]),
        (roberta, paper["roberta_per_token"]),
    ):
        assert each * tokens * arm.updates == pytest.approx(whole["run"], abs=each * tokens / 2)
    assert electra.updates < plain.updates < roberta.updates
    assert [run.is_plain for run in runs[:4]] == [False, True, False, True]


def test_tiny_s_ablations_differ_from_its_recipe_and_cost_as_much(data):
    """A generator of a quarter and --disc-weight 10 it has; a third of its updates are MLM."""
    recipe = find_recipe("tiny", "minutes")
    electra, *others = plan_runs("tiny", data, recipe, [100], ablations=True)
    ablations = [run for run in others if run.is_ablation]
    names = ["generator-1-2", "generator-1", "untied-embeddings", "loss-on-picked-tokens"]
    assert [run.name for run in ablations] == [f"{name}-100" for name in names]
    usual = count_cost("tiny", data, recipe, (), electra.updates, electra.updates // 3)["run"]
    for options, updates in ((each.options, each.updates) for each in ablations):
        counted = options if options[0] != "--disc-loss-on" else ()
        cost = count_cost("tiny", data, recipe, counted, updates, updates // 3)["run"]
        assert cost == pytest.approx(usual, rel=1e-3), options


def test_an_hour_s_ablation_without_corrections_has_more_updates(data):
    recipe = find_recipe("tiny", "hour")
    electra, *others = plan_runs("tiny", data, recipe, [100], ablations=True)
    (plain,) = (run for run in others if run.options == ["--clm-weight", "0"])
    assert plain.name == "no-corrective-language-modelling-100"
    assert plain.updates > 1.08 * electra.updates


@pytest.mark.parametrize("size", ["small", "tiny"])
def test_options_that_make_electra_dearer_give_the_others_more_updates(data, size):
    recipe = find_recipe(size)
    options = ["--store-ema", "--clm-weight", "1"]
    usual, dearer = (
        plan_runs(size, data, recipe, [50], ablations=True, electra_options=given)
        for given in ([], options)
    )
    usual, dearer = ({run.name: run.updates for run in runs} for runs in (usual, dearer))
    assert usual.keys() == dearer.keys()
    assert usual["electra-50"] == dearer["electra-50"]
    stage = choose_mlm_updates(recipe, usual["electra-50"])
    costs = [
        count_cost(size, data, recipe, given, usual["electra-50"], stage)["run"]
        for given in ([], options)
    ]
    share = dearer["roberta-50"] / usual["roberta-50"]
    assert share == pytest.approx(costs[1] / costs[0], rel=1e-3) and share > 1.005


def test_the_warm_up_is_the_paper_s_or_a_tenth(data):
    recipe = find_recipe("small")
    short, _, long, _ = plan_runs("small", data, recipe, [1.6, 50], ablations=False)
    assert (short.warmup, long.warmup) == (1_600, 10_000)


def test_a_size_that_is_none():
    with pytest.raises(
        ValueError, match="SIZE must be one of tiny, small, base, large, not 'huge'"
    ):
        find_recipe("huge")


def test_a_stage_is_run_once(tmp_path):
    stages = Stages(tmp_path)
    stage = Stage("count", ["sh", "-c", f"echo x >> {tmp_path}/runs"], {})
    assert stages.run(stage) and stages.run(stage)
    assert (tmp_path / "runs").read_text() == "x\n"
    assert "count | done before" in (tmp_path / "progress.log").read_text()


def test_a_stage_that_fails_says_why_and_is_run_again(tmp_path):
    stages = Stages(tmp_path)
    command = ["sh", "-c", f"cat {tmp_path}/there || {{ echo no {tmp_path}/there >&2; exit 3; }}"]
    assert not stages.run(Stage("read", command, {}))
    assert stages.failed == ["read"]
    progress = (tmp_path / "progress.log").read_text()
    assert f"failed after 0 s: no {tmp_path}/there" in progress
    (tmp_path / "there").touch()
    assert stages.run(Stage("read", command, {}))


def test_a_reason_is_of_the_last_start(tmp_path):
    stages = Stages(tmp_path)
    stages.run(Stage("read", ["sh", "-c", "echo '1 | ERROR | x | old'; exit 1"], {}))
    stages.run(Stage("read", ["sh", "-c", "echo killed; exit 1"], {}))
    assert "failed after 0 s: killed" in (tmp_path / "progress.log").read_text()


def test_what_a_killed_start_had_finished_is_not_made_again(tmp_path):
    (tmp_path / "made").mkdir()
    assert Stages(tmp_path).run(Stage("make", ["false"], {}, tmp_path / "made"))
    assert (tmp_path / "done" / "make").exists()


def test_a_missing_text_is_named_before_a_folder_is_claimed(tmp_path, monkeypatch, inputs):
    monkeypatch.setenv("GLUE_DIR", str(inputs / "glue"))
    with pytest.raises(SystemExit, match=f"no text {tmp_path}/none.txt"):
        main([str(tmp_path / "out"), str(tmp_path / "none.txt")])
    assert not (tmp_path / "out").exists()


LEFT = """
import os, pathlib, signal, sys
from scripts.evidence.stages import Stage, Stages
stages = Stages(pathlib.Path(sys.argv[1]))
command = ["sh", "-c", "sleep 2 & kill -9 " + str(os.getpid()) + "; wait"]
stages.run(Stage("kill", command, {}))
"""


def test_two_cannot_work_in_one_folder_nor_beside_what_a_kill_left(tmp_path):
    first = Stages(tmp_path)
    with pytest.raises(ValueError, match="another run, or a command of one, works in it"):
        Stages(tmp_path)
    first.lock.close()
    killed = run(sys.executable, "-c", LEFT, tmp_path, check=False, PYTHONPATH=str(ROOT))
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(ValueError, match="works in it"):
        Stages(tmp_path)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            return Stages(tmp_path).lock.close()
        except ValueError:
            time.sleep(0.2)
    pytest.fail("the lock of a command that has ended is still there")


def test_what_is_stopped_starts_nothing_more(tmp_path):
    stages = Stages(tmp_path)
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    stages.running.append(process)
    stages.stop()
    assert process.wait(10) == -signal.SIGTERM
    assert not stages.run(Stage("later", ["true"], {}))
    assert stages.failed == []


def describe(scores):
    return {"median": scores[0], "best": max(scores), "lowest": min(scores), "scores": scores}


def test_the_mean_is_over_all_tasks_seed_by_seed():
    glue = {
        "CoLA": {"mcc": describe([10.0, 20.0])},
        "MNLI-m": {"accuracy": describe([50.0, 40.0, 30.0])},  # a seed that is ahead
        "MNLI-mm": {"accuracy": describe([0.0, 0.0, 0.0])},  # not counted
    }
    assert average_scores(glue, ["CoLA", "MNLI"])["scores"] == [30.0, 30.0]
    assert average_scores(glue, ["CoLA", "MNLI", "RTE"]) is None
    assert average_scores(None, ["CoLA"]) is None


def test_a_report_before_anything_has_run(tmp_path, data):
    run = plan_runs("small", data, find_recipe("small"), [1.6], ablations=False)[0]
    (tmp_path / "data-bin").mkdir()
    builder = indexed_dataset.make_builder(str(tmp_path / "data-bin" / "train.bin"), "mmap", 50)
    builder.add_item(torch.tensor([5, 6, 2]))
    builder.finalize(str(tmp_path / "data-bin" / "train.idx"))
    plan = {
        "size": "small",
        "budget": "minutes",
        "others": ["blimp_dir"],
        "seeds": [1],
        "tasks": ["RTE"],
        "runs": [run._asdict()],
        "machine": {"device": "a machine", "peaks": {"float32": 1e12, "bf16": 2e12}},
        "command": ["out", "text"],
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    write_report(tmp_path)
    report = (tmp_path / "report" / "evidence.md").read_text()
    assert "| ELECTRA | 1.6 % | not run |" in report
    assert "The text has 3 tokens" in report
    assert (tmp_path / "report" / "curve.png").stat().st_size > 5_000  # empty axes
    with pytest.raises(ValueError, match=r"no plan\.json"):
        write_report(tmp_path / "report")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Raw text and one of GLUE's tasks."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = random.Random(1)
    lines = [" ".join(rng.choices(WORDS, k=12)) for _ in range(400)]
    documents = ["\n".join(lines[n : n + 8]) for n in range(0, len(lines), 8)]
    (folder / "text.txt").write_text("\n\n".join(documents) + "\n")
    rows = [
        ("entailment" if n % 2 else "not_entailment", (lines[n], lines[n + 1])) for n in range(60)
    ]
    (folder / "glue").mkdir()
    glue_files.write_task(folder / "glue", "RTE", train=rows[:48], dev=rows[48:])
    (folder / "conll").mkdir()
    for split, part in (("train", lines[:48]), ("valid", lines[48:60])):
        tagged = ["\n".join(f"{word} B-{word[0]}" for word in line.split()) for line in part]
        (folder / "conll" / f"{split}.txt").write_text("\n\n".join(tagged) + "\n")
    (folder / "pairs").mkdir()
    with (folder / "pairs" / "order.jsonl").open("w") as out:
        for line in lines[:4]:
            bad = " ".join(reversed(line.split()))
            out.write(json.dumps({"sentence_good": line, "sentence_bad": bad}) + "\n")
    return folder


@pytest.mark.campaign
def test_text_in_and_a_curve_out(inputs, tmp_path, monkeypatch):
    for name, value in {
        "SIZE": "tiny",
        "SEEDS": "1",
        "EPOCHS": "1",
        "GLUE_DIR": str(inputs / "glue"),
        "CONLL_DIR": str(inputs / "conll"),
        "BLIMP_DIR": str(inputs / "pairs"),
    }.items():
        monkeypatch.setenv(name, value)
    command = [str(tmp_path / "out"), str(inputs / "text.txt"), "--vocab-size", "80"]
    command += [
        "--budgets",
        "2",
        "--no-ablations",
        "--jobs",
        "2",
        "--electra-options",
        "--log-interval 1",
    ]
    script = ROOT / "scripts" / "reproduce.sh"
    done = run(script, *command, timeout=3000)  # nineteen commands
    report = tmp_path / "out" / "report"
    results = json.loads((report / "results.json").read_text())
    assert [result["complete"] for result in results] == [True] * 4
    electra, plain, mlm, roberta = results
    assert (electra["updates"], electra["model"]) == (30, "electra")
    for other in (plain, mlm, roberta):
        assert other["flops"] == pytest.approx(electra["flops"], rel=0.03)  # to an update
    assert plain["held_out"]["mlm_loss"] != electra["held_out"]["mlm_loss"]
    assert set(electra["pairs"]["mean"]) == {"discriminator", "generator", "combined"}
    for result in results:
        assert result["features"]["last"]["feature_dims"] > 0
        assert 0 < result["features"]["last"]["probe"] <= 100
        assert 0 <= result["pairs"]["mean"]["generator"]["sum"] <= 100
        assert 0 <= result["tags"]["median"] <= 100
        (score,) = result["glue"]["RTE"]["accuracy"]["scores"]
        assert 0 <= score <= 100
        assert 0 < result["share_of_peak"] < 1
    assert "not run" not in (report / "evidence.md").read_text()
    assert (report / "curve.png").stat().st_size > 10_000
    again = run(script, *command, timeout=3000)
    # the data and the tags; of each model pre-training, GLUE, tags, pairs, features
    assert again.output.count("done before") == done.output.count("done in") == 2 + 4 * 5
    other = run(script, *command, "--roberta-options", "--lr 1", check=False)
    assert other.output.strip().splitlines()[-1].endswith("name another OUT_DIR")
