"""Tagging from end to end: learning, resuming, loading, predicting, and input that does not fit."""

import json
import re
import shutil
import sys

import pytest
import torch
from omegaconf import OmegaConf
from seqeval.metrics import f1_score

from fairseq_electra.__main__ import main
from fairseq_electra.data.conll import format_conll, read_conll
from fairseq_electra.hub.finetuned_model import load_finetuned
from fairseq_electra.models.electra_config import ElectraConfig
from fairseq_electra.modules.heads import TaggingHead
from fairseq_electra.tasks.electra_tagging import (
    HEAD,
    ElectraTaggingTask,
    ElectraTaggingTaskConfig,
)
from tagging_bin import TAGS, make_sentences, make_tag_bin
from tiny import TINY, TINY_OPTIONS, USER_DIR


@pytest.fixture(scope="module")
def tag_bin(tmp_path_factory):
    return make_tag_bin(tmp_path_factory.mktemp("tags") / "bin")


@pytest.fixture(scope="module")
def train(run_command, tag_bin):
    """A function that runs fairseq-train on tags for 120 updates; options are appended."""

    def run(save_dir, *options, data=tag_bin, check=True):
        return run_command(
            *(sys.executable, "-m", "fairseq_cli.train", data, "--user-dir", USER_DIR, "--cpu"),
            *("--task", "electra_tagging", "--criterion", "electra_tagging"),
            *("--arch", "electra_tiny", *TINY_OPTIONS, "--tokens-per-sample", 16),
            *("--optimizer", "electra_adam", "--lr-scheduler", "electra_decay", "--lr", "5e-3"),
            *("--warmup-updates", 12, "--max-update", 120, "--clip-norm", 1.0, "--dropout", 0.1),
            *("--batch-size", 16, "--num-workers", 0, "--log-format", "json"),
            *("--no-epoch-checkpoints", "--validate-interval", 4),
            *("--save-dir", save_dir, *options),
            check=check,
        )

    return run


@pytest.fixture(scope="module")
def trained(train, tmp_path_factory):
    """A run of twelve epochs, with a checkpoint inside: its save-dir and what it printed."""
    save_dir = tmp_path_factory.mktemp("trained")
    return save_dir, train(save_dir, "--save-interval-updates", 75).output


def read_valid(output):
    """Held-out metrics of each epoch."""
    lines = re.findall(r"\| valid \| (\{.*\})", output)
    return [{key: float(value) for key, value in json.loads(line).items()} for line in lines]


def load_state(path):
    return torch.load(path, weights_only=True)["model"]


def test_tags_of_words_are_learnt(trained):
    *_, last = read_valid(trained[1])
    assert last["valid_f1"] > 0.9
    assert last["valid_accuracy"] > 0.9
    assert last["valid_loss"] < 0.5
    assert {"valid_precision", "valid_recall"} <= set(last)


def test_a_resumed_run_ends_with_the_same_weights(trained, train, tmp_path):
    """After 75 of 120 updates, inside the eighth epoch; dropout is on."""
    shutil.copy(trained[0] / "checkpoint_8_75.pt", tmp_path / "checkpoint_last.pt")
    resumed = train(tmp_path, "--save-interval-updates", 75)
    assert "checkpoint_last.pt (epoch 8 @ 75 updates)" in resumed.output
    once, twice = (load_state(folder / "checkpoint_last.pt") for folder in (trained[0], tmp_path))
    assert once.keys() == twice.keys()
    assert all(torch.equal(once[name], twice[name]) for name in once)


def tag(capsys, *arguments):
    """What the command printed, or the message it ended with."""
    try:
        main(["tag", "--conll", *map(str, arguments)])
    except SystemExit as stop:
        return str(stop.code)
    return capsys.readouterr().out


def test_a_loaded_checkpoint_predicts_what_validation_saw(trained, tag_bin, tmp_path, capsys):
    """The script's F1, seqeval's on the file it wrote, and training's: all of the last update."""
    during = read_valid(trained[1])[-1]
    checkpoint = trained[0] / "checkpoint_last.pt"
    out = tmp_path / "out.conll"
    printed = tag(capsys, checkpoint, tag_bin / "valid.conll", "--out", out)
    gold = [sentence.tags for sentence in read_conll(tag_bin / "valid.conll")]
    ours = [sentence.tags for sentence in read_conll(out)]
    assert [sentence.tags for sentence in read_conll(out, tag_column=1)] == gold
    f1 = f1_score(gold, ours)
    assert during["valid_f1"] == pytest.approx(f1, abs=6e-5)
    scores = dict(re.findall(r"(accuracy|precision|recall|f1) ([\d.]+)", printed))
    for name, score in scores.items():
        assert float(score) == pytest.approx(during[f"valid_{name}"], abs=1e-4), name
    assert len(scores) == 4
    assert "30 sentences" in printed
    again = tag(capsys, checkpoint, tag_bin / "valid.conll")
    assert again == out.read_text()


def test_long_sentences_keep_every_word(trained, tag_bin, tmp_path, capsys):
    """A sentence of many examples, words without pieces, no tags, tabs, CRLF, no last line end."""
    words = [word for sentence in make_sentences(30, seed=9) for word in sentence.words]
    words[5], words[17] = "\x01", "w" + "1" * 40
    source = tmp_path / "in.txt"
    source.write_text("\r\n".join(["1\tw3", "", *(f"{n}\t{w}" for n, w in enumerate(words))]))
    out = tmp_path / "out.txt"
    options = ("--word-column", 1, "--tag-column", "none", "--out", out)
    checkpoint = trained[0] / "checkpoint_last.pt"
    printed = tag(capsys, checkpoint, source, *options)
    assert printed == (
        f"2 sentences, {len(words) + 1} words, 1 sentences cut into several examples, "
        "1 words cut short, 1 words without a piece\n"
    )
    before, after = (path.read_bytes().split(b"\n") for path in (source, out))
    assert after.pop() == b""
    assert len(before) == len(after)
    for one, other in zip(before, after):
        if one.strip():
            *kept, predicted = other.removesuffix(b"\r").split(b"\t")
            assert kept == one.removesuffix(b"\r").split(b"\t")
            assert predicted.decode() in TAGS
        else:
            assert one == other


# --- what does not fit ---


def make_task(folder, **options):
    return ElectraTaggingTask.setup_task(ElectraTaggingTaskConfig(data=str(folder), **options))


def copy_bin(tag_bin, tmp_path):
    return shutil.copytree(tag_bin, tmp_path / "changed")


def test_a_tag_without_a_place_in_the_head_is_named(tag_bin, tmp_path):
    folder = copy_bin(tag_bin, tmp_path)
    (folder / "valid.conll").write_text("w1 O\n\nw2 B-A\nw3 B-NEW\n")
    with pytest.raises(ValueError, match=r"valid\.conll, line 4: tag 'B-NEW' is none of the 5 in"):
        make_task(folder).load_dataset("valid")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("w1 O\nw2\n", r"train\.conll, line 2: has 1 columns, line 1 has 2"),
        ("\n\n", r"train\.conll has no words"),
        (None, r"train\.conll cannot be read"),
    ],
)
def test_bad_splits_are_named(tag_bin, tmp_path, content, message):
    folder = copy_bin(tag_bin, tmp_path)
    (folder / "train.conll").unlink()
    if content is not None:
        (folder / "train.conll").write_text(content)
    with pytest.raises(ValueError, match=message):
        make_task(folder).load_dataset("train")


def test_folders_and_lengths_that_do_not_fit_are_named(tag_bin, tmp_path, build_model):
    with pytest.raises(ValueError, match=r"no dict\.txt in .*; make it with fairseq-electra prep"):
        make_task(tmp_path)
    with pytest.raises(ValueError, match="--tokens-per-sample 7 is too short"):
        make_task(tag_bin, tokens_per_sample=7)
    with pytest.raises(ValueError, match="33 is more than the model's --max-positions 32"):
        make_task(tag_bin, tokens_per_sample=33).build_model(build_model().cfg)


def test_other_labels_of_the_same_number_are_refused(trained, train, tag_bin, tmp_path, capsys):
    """By the script, and by fairseq-train, which would go on with tags that mean something else."""
    folder = copy_bin(tag_bin, tmp_path)
    (folder / "label" / "dict.txt").write_text("".join(f"{tag} 1\n" for tag in TAGS[::-1]))
    checkpoint = trained[0] / "checkpoint_last.pt"
    printed = tag(capsys, checkpoint, tag_bin / "valid.conll", "--data", folder)
    assert "tagging_head was trained with other labels than those in label/dict.txt" in printed
    save_dir = shutil.copytree(trained[0], tmp_path / "save")
    done = train(save_dir, "--max-update", 150, data=folder, check=False)
    assert done.returncode != 0
    assert "tagging_head was trained with other labels" in done.output


def test_another_dictionary_is_refused(trained, tag_bin, tmp_path, capsys):
    folder = copy_bin(tag_bin, tmp_path)
    pieces = (folder / "vocab.txt").read_text().split("\n")
    pieces[-1], pieces[-2] = pieces[-2], pieces[-1]
    (folder / "vocab.txt").write_text("\n".join(pieces))
    (folder / "dict.txt").write_text("".join(f"{piece} 1\n" for piece in pieces[5:]))
    checkpoint = trained[0] / "checkpoint_last.pt"
    printed = tag(capsys, checkpoint, tag_bin / "valid.conll", "--data", folder)
    assert "trained with another dictionary" in printed
    assert "\n" not in printed


def test_what_the_script_cannot_use_is_named(trained, tag_bin, tmp_path, capsys):
    checkpoint = trained[0] / "checkpoint_last.pt"
    source = tmp_path / "in.txt"
    source.write_text("w1 NN B-A\nw2 VB B-NEW\n")  # a right tag that is not known is a miss
    assert "accuracy" in tag(capsys, checkpoint, source, "--out", tmp_path / "out")
    for arguments, message in (
        (
            (checkpoint, source, "--tag-column", 1),
            "in.txt, line 1: 'NN' is not a tag like the model's",
        ),
        ((checkpoint, source, "--out", source), "in.txt exists already"),
        ((checkpoint, tmp_path / "gone"), "gone cannot be read"),
        ((source, source), "in.txt is not a whole checkpoint of fairseq-train"),
        ((tmp_path / "gone.pt", source), "gone.pt: no such checkpoint"),
        ((checkpoint, source, "--data", tmp_path / "gone"), "is not there: name it with --data"),
    ):
        printed = tag(capsys, *arguments)
        assert message in printed
        assert printed.startswith("fairseq-electra tag: ")
        assert "\n" not in printed


def test_a_checkpoint_of_another_task_is_named(trained, tmp_path):
    state = torch.load(trained[0] / "checkpoint_last.pt", weights_only=True)
    state["cfg"]["task"]["_name"] = "electra"
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="was trained with --task electra, not electra_tagging"):
        load_finetuned(tmp_path / "other.pt", "electra_tagging", None)


# --- the head ---


def test_the_head_by_hand():
    head = TaggingHead(2, 3, 0.0, torch.tensor(7))
    with torch.no_grad():
        head.out_proj.weight.copy_(torch.tensor([[1.0, 0], [0, 2], [1, 1]]))
        head.out_proj.bias.copy_(torch.tensor([0.0, 0, 5]))
    features = torch.tensor([[[3.0, 4.0], [-1.0, 2.0]]])
    assert head(features).tolist() == [[[3, 8, 12], [-1, 4, 6]]]


def test_tags_follow_from_the_whole_sentence(tag_bin):
    """The head sits on every token, and padding changes nothing."""
    task = make_task(tag_bin, tokens_per_sample=16)
    cfg = OmegaConf.structured(ElectraConfig(**TINY, _name="electra"))
    model = task.build_model(cfg).eval()
    dataset = task.make_dataset(make_sentences(3, seed=2), "some")
    batch = dataset.collater([dataset[index] for index in range(3)])
    logits, _ = model(**batch["net_input"], classification_head_name=HEAD)
    assert logits.shape == (*batch["target"].shape, len(TAGS))
    for index in range(3):
        alone = dataset.collater([dataset[index]])["net_input"]
        expected, _ = model(**alone, classification_head_name=HEAD)
        length = expected.size(1)
        torch.testing.assert_close(logits[index : index + 1, :length], expected)


def test_formatting_keeps_what_the_bin_says(tag_bin):
    assert (
        format_conll(read_conll(tag_bin / "train.conll")) == (tag_bin / "train.conll").read_text()
    )
