"""Of two sentences the one that scores higher: pairs, files, fields; ELECTRA and RoBERTa."""

import json
from argparse import Namespace

import pytest
import torch
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models.roberta import RobertaModel
from fairseq.options import get_training_parser, parse_args_and_arch
from omegaconf import OmegaConf

from fairseq_electra.__main__ import main
from fairseq_electra.hub.loading import load_scorer
from fairseq_electra.hub.masks import MASK
from finetuned import make_tokenizer
from tagging_bin import make_dictionary

SENTENCES = [
    ("the cat sees it.", "the cat see it"),
    ("a dog likes the old bird", "a dog the likes old bird and it"),
    ("it was good", "good was it was good"),
    ("a small dog wasn't here", "a small dog wasn't here"),  # alike
]

KINDS = ["discriminator", "generator", "combined"]  # of ELECTRA


def write_pairs(path, pairs, **more):
    lines = [{"sentence_good": good, "sentence_bad": bad, **more} for good, bad in pairs]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def files(tmp_path):
    return [
        write_pairs(tmp_path / "agreement.jsonl", SENTENCES, field="syntax", UID="x"),
        write_pairs(tmp_path / "order.jsonl", SENTENCES[:1], field="syntax"),
        write_pairs(tmp_path / "other.jsonl", SENTENCES[1:3]),
    ]


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    """The folder of a random RoBERTa of fairseq's, and the model."""
    folder = tmp_path_factory.mktemp("roberta")
    tokenizer = make_tokenizer()
    tokenizer.save(folder)
    dictionary = make_dictionary(tokenizer)
    dictionary.add_symbol(MASK)
    (folder / "dict.txt").write_text(
        "".join(f"{word} 1\n" for word in dictionary.symbols[4:] if word != MASK)
    )
    options = (
        *(str(folder), "--task", "masked_lm", "--arch", "roberta", "--tokens-per-sample", "64"),
        *("--encoder-layers", "1", "--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "16"),
        *("--encoder-attention-heads", "2", "--max-positions", "64"),
    )
    args = parse_args_and_arch(get_training_parser("masked_lm"), list(options))
    torch.manual_seed(2)
    model = RobertaModel.build_model(args, Namespace(source_dictionary=dictionary)).eval()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    cfg = OmegaConf.to_container(convert_namespace_to_omegaconf(args), enum_to_str=True)
    history = {"criterion_name": "MaskedLmLoss", "lr_scheduler_state": {}, "num_updates": 0}
    state = {"args": None, "cfg": cfg, "model": model.state_dict(), "optimizer_history": [history]}
    state["extra_state"] = {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}}
    torch.save(state, folder / "checkpoint.pt")
    return folder, model


def run(model, files, out, *options):
    main(["minimal-pairs", str(model), *map(str, files), "--out", str(out), *options])
    return json.loads(out.read_text())


def test_accuracies_are_those_of_the_scores(electra, checkpoint, files, tmp_path, capsys):
    found = run(checkpoint, files, tmp_path / "out.json")
    assert found["score"] == KINDS
    hits = {}
    for kind in KINDS:
        for reading in ("sum", "mean"):
            row = []
            for pair in SENTENCES:
                sums = electra.score(list(pair), kind)
                sizes = [len(electra.encode(text)) - 2 for text in pair]
                one, other = (s / n if reading == "mean" else s for s, n in zip(sums, sizes))
                row.append(one > other and pair[0] != pair[1])
            hits[kind, reading] = row
    assert len({tuple(row) for row in hits.values()}) > 1  # the readings differ
    for (kind, reading), row in hits.items():
        parts = {"agreement": row, "order": row[:1], "other": row[1:3]}
        wanted = {name: 100 * sum(part) / len(part) for name, part in parts.items()}
        for name, percent in wanted.items():
            file = found["files"][name]
            assert file["pairs"] == len(parts[name])
            assert file["accuracy"][kind][reading] == pytest.approx(percent)
        syntax = found["fields"]["syntax"]["accuracy"][kind][reading]
        assert syntax == pytest.approx(100 * (sum(row) + row[0]) / 5)  # of pairs
        assert found["mean"][kind][reading] == pytest.approx(sum(wanted.values()) / 3)  # of files
    assert list(found["fields"]) == ["syntax"]
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["pairs", *" per token ".join([*KINDS, ""]).split()]
    assert table[1].split()[:2] == ["agreement", "4"]
    assert table[-1].startswith("mean over 3 files")
    assert table[-1].split()[4] == f"{found['mean']['discriminator']['sum']:.1f}"


def test_some_scores_alone(checkpoint, files, tmp_path):
    whole = run(checkpoint, files, tmp_path / "whole.json")
    part = run(checkpoint, files, tmp_path / "part.json", "--score", "combined")
    assert part["mean"] == {"combined": whole["mean"]["combined"]}
    small = run(checkpoint, files, tmp_path / "small.json", "--batch-size", "1")
    assert small["files"] == whole["files"]


def test_a_roberta_is_asked_by_its_pseudo_log_likelihood(roberta, files, tmp_path, capsys):
    folder, model = roberta
    scorer = load_scorer(folder, "cpu")
    (mask,) = {scorer.dictionary.index(MASK), model.encoder.dictionary.index(MASK)}

    def score(text):
        numbers = [0, *scorer.read(text).numbers, 2]
        total = 0.0
        for place in range(1, len(numbers) - 1):
            tokens = torch.tensor([numbers])
            tokens[0, place] = mask
            total += model(tokens)[0][0, place].log_softmax(-1)[numbers[place]].item()
        return total

    found = run(folder, files, tmp_path / "out.json")
    assert found["score"] == ["generator"]
    hits = [score(good) > score(bad) for good, bad in SENTENCES]
    assert 0 < sum(hits) < 4
    accuracy = found["files"]["agreement"]["accuracy"]["generator"]["sum"]
    assert accuracy == pytest.approx(25 * sum(hits))
    with pytest.raises(SystemExit, match=r"needs a discriminator: .* of a RobertaModel"):
        main(["minimal-pairs", str(folder), str(files[0]), "--score", "combined"])


def test_several_places_of_a_batch_are_told_apart(roberta):
    """Picked in any order, and once or twice."""
    scorer = load_scorer(roberta[0], "cpu")
    tokens = torch.tensor([[0, 5, 6, 7, 2], [0, 8, 2, 1, 1]])
    picked = torch.tensor([[3, 1], [1, 1]])
    with torch.no_grad():
        whole = roberta[1](tokens)[0]
    wanted = torch.stack([whole[row, places] for row, places in enumerate(picked)])
    logits = scorer.word_logits(tokens, picked)
    torch.testing.assert_close(logits, wanted)
    rough = load_scorer(roberta[0], "cpu", "bf16").word_logits(tokens, picked)
    assert 0 < (rough - logits).abs().max() < 0.1 * logits.abs().max()


@pytest.mark.parametrize(
    "text, message",
    [
        (
            '{"sentence_good": "a", "sentence_bad": "b"}\n{"good": "a"}\n',
            "line 2: no text sentence_good",
        ),
        ('{"sentence_good": "a", "sentence_bad": " "}\n', "line 1: sentence_bad is empty"),
        ('{"sentence_good": "a", "sentence_bad": 3}\n', "line 1: no text sentence_bad"),
        ("[1]\n", "line 1: not an object with sentence_good"),
        ("what\n", "line 1: not JSON"),
        ("\n", "line 1: not JSON"),
        ("", "has no pairs"),
        (b'{"sentence_good": "\xff"}', "line 1: not JSON: 'utf-8"),
    ],
)
def test_a_wrong_file_is_named(checkpoint, tmp_path, text, message):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SystemExit, match=f"pairs.jsonl,? {message}"):
        main(["minimal-pairs", str(checkpoint), str(path)])


def test_files_of_one_name_keep_their_folders(checkpoint, files, tmp_path):
    (tmp_path / "again").mkdir()
    same = write_pairs(tmp_path / "again" / "order.jsonl", SENTENCES[:2])
    found = run(checkpoint, [files[1], same], tmp_path / "out.json", "--score", "discriminator")
    assert list(found["files"]) == [str(files[1]), str(same)]
    with pytest.raises(SystemExit, match=r"--out .*out\.json exists already"):
        run(checkpoint, files, tmp_path / "out.json")
