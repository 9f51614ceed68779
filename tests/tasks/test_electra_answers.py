"""Answers from end to end: learning, resuming, loading, predicting, and input that does not fit."""

import json
import re
import shutil
import sys

import pytest
import torch
from omegaconf import OmegaConf

from fairseq_electra.__main__ import main
from fairseq_electra.answers.decode import HEAD
from fairseq_electra.hub.finetuned_model import load_finetuned
from fairseq_electra.models.electra_config import ElectraConfig
from fairseq_electra.modules.answer_head import JointAnswerHead, LinearAnswerHead
from fairseq_electra.tasks.electra_answers import ElectraAnswersTask, ElectraAnswersTaskConfig
from squad_bin import list_qas, make_squad, make_squad_bin
from tiny import TINY, TINY_OPTIONS, USER_DIR

WINDOW = ("--tokens-per-sample", 20, "--doc-stride", 8, "--max-query-length", 6)


@pytest.fixture(scope="module")
def squad_bin(tmp_path_factory):
    return make_squad_bin(tmp_path_factory.mktemp("squad") / "bin", "v2.0", train=64, words=3)


@pytest.fixture(scope="module")
def train(run_command, squad_bin):
    """A function that runs fairseq-train on answers for 150 updates; options are appended."""

    def run(save_dir, *options, data=squad_bin, check=True):
        return run_command(
            *(sys.executable, "-m", "fairseq_cli.train", data, "--user-dir", USER_DIR, "--cpu"),
            *("--task", "electra_answers", "--criterion", "electra_answers"),
            *("--arch", "electra_tiny", *TINY_OPTIONS, *WINDOW),
            *("--optimizer", "electra_adam", "--lr-scheduler", "electra_decay", "--lr", "3e-3"),
            *("--warmup-updates", 15, "--max-update", 150, "--clip-norm", 1.0, "--dropout", 0.02),
            *("--batch-size", 16, "--num-workers", 0, "--log-format", "json"),
            *("--no-epoch-checkpoints", "--validate-interval", 5),
            *("--save-dir", save_dir, *options),
            check=check,
        )

    return run


@pytest.fixture(scope="module")
def trained(train, tmp_path_factory):
    """A run: its save-dir and what it printed."""
    save_dir = tmp_path_factory.mktemp("trained")
    return save_dir, train(save_dir).output


def load_state(path):
    return torch.load(path, weights_only=True)["model"]


def predict(capsys, *arguments):
    """What the command printed, or the message it ended with."""
    try:
        main(["answer", *map(str, arguments)])
    except SystemExit as stop:
        return str(stop.code)
    return capsys.readouterr().out


def test_a_small_set_is_learnt_and_predicted(trained, squad_bin, tmp_path, capsys):
    """The training set itself; the numbers printed follow from the files written."""
    names = [tmp_path / f"{name}.json" for name in ("texts", "na", "nbest")]
    out, na, nbest = names
    options = ("--out", out, "--na-probs", na, "--nbest", nbest)
    train_file = squad_bin / "train.json"
    printed = predict(capsys, trained[0] / "checkpoint_last.pt", train_file, *options)
    scores = {name: float(value) for name, value in re.findall(r"(\w+) +([\d.]+)\n", printed)}
    assert scores["HasAns_exact"] > 80
    assert scores["best_exact"] > 80
    texts, na_probs, best = (json.loads(name.read_text()) for name in names)
    qas = {qa["id"]: qa for qa in list_qas(json.loads(train_file.read_text()))}
    assert texts.keys() == na_probs.keys() == best.keys() == qas.keys()
    possible = [name for name, qa in qas.items() if qa["answers"]]
    right = [texts[name] == qas[name]["answers"][0]["text"] for name in possible]
    assert scores["HasAns_exact"] == pytest.approx(100 * sum(right) / len(right), abs=0.005)
    assert scores["NoAns_exact"] == 0  # an answer is written unless a threshold is given
    for name, answers in best.items():
        assert answers[0]["text"] == texts[name]
        assert sum(answer["probability"] for answer in answers) == pytest.approx(1)


def test_a_loaded_checkpoint_predicts_the_same_and_a_threshold_empties(
    trained, squad_bin, tmp_path, capsys
):
    checkpoint, valid = trained[0] / "checkpoint_last.pt", squad_bin / "valid.json"
    out, na, again, cut = (tmp_path / f"{n}.json" for n in range(4))
    first = predict(capsys, checkpoint, valid, "--out", out, "--na-probs", na)
    second = predict(capsys, checkpoint, valid, "--out", again)
    assert first == second
    assert out.read_bytes() == again.read_bytes()
    na_probs = json.loads(na.read_text())
    threshold = sorted(na_probs.values())[10]
    predict(capsys, checkpoint, valid, "--out", cut, "--na-threshold", threshold)
    texts, emptied = json.loads(out.read_text()), json.loads(cut.read_text())
    for name, probability in na_probs.items():
        assert emptied[name] == ("" if probability > threshold else texts[name])
    assert "exists already" in predict(capsys, checkpoint, valid, "--out", out)


def test_validation_s_loss_is_that_of_the_loaded_model(trained, squad_bin):
    """The last validation's numbers again, from the checkpoint, one window at a time."""
    *_, line = re.findall(r"\| valid \| (\{.*\})", trained[1])
    during = {name: float(value) for name, value in json.loads(line).items()}
    model, task = load_finetuned(trained[0] / "checkpoint_last.pt", "electra_answers", None)
    task.load_dataset("valid")
    dataset = task.dataset("valid")
    losses = []
    for index in range(len(dataset)):
        batch = dataset.collater([dataset[index]])
        with torch.no_grad():
            logits, _ = model(**batch["net_input"], classification_head_name=HEAD)
        start = batch["net_input"]["start_positions"]
        losses.append(torch.nn.functional.cross_entropy(logits.start, start).item())
    assert during["valid_start_loss"] == pytest.approx(sum(losses) / len(losses), abs=1e-3)


@pytest.mark.campaign
def test_a_resumed_run_ends_with_the_same_weights(trained, train, tmp_path):
    """Stopped after 75 of 150 updates; dropout is on."""
    train(tmp_path, "--save-interval-updates", 75)
    (halfway,) = tmp_path.glob("checkpoint_*_75.pt")
    shutil.copy(halfway, tmp_path / "checkpoint_last.pt")
    resumed = train(tmp_path, "--save-interval-updates", 75)
    assert "@ 75 updates)" in resumed.output
    once, twice = (load_state(folder / "checkpoint_last.pt") for folder in (trained[0], tmp_path))
    assert once.keys() == twice.keys()
    assert all(torch.equal(once[name], twice[name]) for name in once)


def test_a_checkpoint_with_another_dictionary_is_refused(train, trained, squad_bin, tmp_path):
    other = tmp_path / "bin"
    shutil.copytree(squad_bin, other)
    vocabulary = (other / "vocab.txt").read_text().replace("w9\n", "w99\n")
    (other / "vocab.txt").write_text(vocabulary)
    lines = (other / "dict.txt").read_text().replace("w9 1\n", "w99 1\n")
    (other / "dict.txt").write_text(lines)
    options = ("--finetune-from-model", trained[0] / "checkpoint_last.pt")
    done = train(tmp_path / "save", *options, data=other, check=False)
    assert done.returncode != 0
    assert "trained with another dictionary: both have" in done.output
    with pytest.raises(ValueError, match="trained with another dictionary"):
        load_finetuned(trained[0] / "checkpoint_last.pt", "electra_answers", other)


def make_task(folder, **options):
    return ElectraAnswersTask.setup_task(ElectraAnswersTaskConfig(data=str(folder), **options))


def build_model(task, **options):
    cfg = ElectraConfig(**{**TINY, **options}, _name="electra")
    return task.build_model(OmegaConf.structured(cfg))


def test_the_head_is_chosen_by_name(squad_bin):
    sizes = {"tokens_per_sample": 20, "max_query_length": 6}
    heads = [
        build_model(make_task(squad_bin, **sizes, answer_head=name)).classification_heads[HEAD]
        for name in ("joint", "linear")
    ]
    assert [type(head) for head in heads] == [JointAnswerHead, LinearAnswerHead]


def test_windows_longer_than_the_positions_are_refused(squad_bin):
    with pytest.raises(ValueError, match="--tokens-per-sample 512 is more than the model's"):
        build_model(make_task(squad_bin))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"doc_stride": 0}, "--doc-stride must be at least 1"),
        ({"max_query_length": 0}, "--max-query-length must be at least 1"),
        ({"tokens_per_sample": 67}, "--tokens-per-sample 67 leaves no room.*at least 68"),
    ],
)
def test_options_without_meaning_are_named(squad_bin, options, complaint):
    with pytest.raises(ValueError, match=complaint):
        make_task(squad_bin, **options)


def test_folders_and_files_that_do_not_fit_are_named(squad_bin, tmp_path, caplog):
    with pytest.raises(ValueError, match=r"no dict.txt in .*prepare-squad"):
        make_task(tmp_path)
    folder = tmp_path / "bin"
    shutil.copytree(squad_bin, folder)
    task = make_task(folder)
    with pytest.raises(ValueError, match=r"no test.json in .*prepare-squad"):
        task.load_dataset("test")
    squad = make_squad(9, 1)
    for qa in list_qas(squad)[:3]:
        qa["answers"][0]["answer_start"] += 1
    (folder / "train.json").write_text(json.dumps(squad))
    task.load_dataset("train")
    assert len(task.dataset("train").queries) == 6
    (warning,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert re.search(r"train.json: left out 3 questions \(q1-0: the answer 'w\d+' is not", warning)
    for qa in list_qas(squad)[3:6]:
        qa["answers"][0]["answer_start"] += 1
    (folder / "train.json").write_text(json.dumps(squad))
    with pytest.raises(ValueError, match=r"train.json: most questions cannot be learnt from: 6"):
        task.load_dataset("train")


def test_prediction_refuses_what_does_not_fit(squad_bin, tmp_path, capsys):
    source, out = tmp_path / "in.json", tmp_path / "out.json"
    source.write_text(json.dumps(make_squad(2, 1)))
    none = tmp_path / "none.pt"
    assert predict(capsys, none, source, "--out", out) == (
        f"fairseq-electra answer: {none}: no such checkpoint"
    )
    printed = predict(capsys, none, source, "--out", out, "--na-probs", tmp_path / "na")
    assert "--na-probs: " in printed
    assert "it is SQuAD 1.1" in printed
    source.write_text("{}")
    assert "the file has no 'data'" in predict(capsys, none, source, "--out", out)
    assert not out.exists()
