"""The shell's side of hub.Electra: a stand-in answers, a real model at the end."""

import inspect
import io
import json
import os
import signal
import sys
from pathlib import Path
from unittest.mock import create_autospec

import numpy as np
import pytest
import torch

from commands import python_folder, run, start, wait_for
from fairseq_electra import hub
from fairseq_electra.__main__ import main
from fairseq_electra.hub import commands
from fairseq_electra.hub.commands import COMMANDS, FILE_OPTIONS, PAIRED, cut_chunks
from fairseq_electra.hub.electra import Electra


class Explanation:
    def __init__(self, text):
        self.text = text

    def to_dict(self):
        return {"text": self.text}

    def html(self):
        return f"<p>{self.text}"


def refuse(text):
    """What a method does with a line that it cannot take."""
    if "bad" in text:
        raise ValueError("it is bad:\nmend it")
    return text


def of_each(texts, *others, **options):
    return [refuse(text) for text in texts]


def embed(sentences, **options):
    return np.array([[len(refuse(text)), 0.1] for text in sentences], dtype=np.float32)


@pytest.fixture
def electra(monkeypatch):
    """What `hub.load` returns: an Electra whose methods know their arguments, and calls."""
    electra = create_autospec(Electra, instance=True)
    for name in ("replaced", "proofread", "fill_mask", "zero_shot", "tag", "classify"):
        getattr(electra, name).side_effect = of_each
    electra.score.side_effect = lambda texts, by: [float(len(refuse(text))) for text in texts]
    electra.embed.side_effect = embed
    electra.similarity_pairwise.side_effect = lambda a, b: torch.tensor(a - b)[:, 0]
    electra.answer.side_effect = lambda question, context, top_k: [refuse(question), context]
    electra.summarize.side_effect = lambda text, *others, **options: [refuse(text)]
    electra.generate.side_effect = lambda text, *others, **options: refuse(text)
    electra.explain.side_effect = lambda text, head: Explanation(refuse(text))
    electra.asked = []

    def load(*arguments):
        electra.asked.append(arguments)
        return electra

    monkeypatch.setattr(hub, "load", load)
    return electra


@pytest.fixture
def call(electra, tmp_path, capfd):
    """Run a command on lines of a file: its status, lines on stdout, text on stderr."""

    def call(name, lines, *options):
        path = tmp_path / "in.txt"
        path.write_bytes(lines if isinstance(lines, bytes) else lines.encode())
        status = 0
        try:
            main([name, "model", str(path), *map(str, options)])
        except SystemExit as stop:
            status = stop.code
        out, err = capfd.readouterr()
        return status, out.splitlines(), err

    return call


QUESTIONS = [{"question": f"q{n}", "context": "c"} for n in range(3)]
LINES = {  # of a command with its options: lines, what comes out
    "replaced": (["one", "", "zwei"], ["one", "", "zwei"]),
    "proofread --topk 2 --threshold 0.9": (["one"], ["one"]),
    "fill-mask": (["a <mask>"], ["a <mask>"]),
    "score --by generator": (["one", "three"], [3.0, 5.0]),
    "score --pairs": (["three\tone"], [2.0]),
    "zero-shot --labels good bad": (["one"], ["one"]),
    "embed --layer 1 --normalize": (["one", ""], [[3.0, 0.1], [0.0, 0.1]]),
    "similarity": (["three\tone", "\t"], [2.0, 0.0]),
    "summarize --num-sentences 1 --diversity 0 --no-first": (["one"], [["one"]]),
    "generate --length 3 --seed 1 --show-rejected": (["", "one"], ["", "one"]),
    "classify --top-k 2": (["one\ttwo"], ["one\ttwo"]),
    "tag --words": (["中 one"], ["中 one"]),
    "answer": (list(map(json.dumps, QUESTIONS)), [[f"q{n}", "c"] for n in range(3)]),
    "explain --head h": (["one"], [{"text": "one"}]),
}


@pytest.mark.parametrize("words", LINES)
def test_a_line_in_is_a_line_out(call, words):
    lines, results = LINES[words]
    name, *options = words.split()
    status, out, err = call(name, "".join(f"{line}\n" for line in lines), *options)
    assert (status, [json.loads(line) for line in out], err) == (0, results, "")


def test_switches_reach_the_method(call, electra):
    for options, use_first in ((["--no-first"], False), ([], True)):
        electra.summarize.reset_mock()
        call("summarize", "one\n", *options)
        assert electra.summarize.call_args.kwargs["use_first"] is use_first


def test_all_commands_were_called():
    assert {words.split()[0] for words in LINES} == set(COMMANDS)
    assert set(PAIRED) | set(FILE_OPTIONS) <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_not_said_is_as_in_python(name):
    """Defaults of the options are those of the methods."""
    parameters = inspect.signature(
        getattr(Electra, {"similarity": "embed"}.get(name, name.replace("-", "_")))
    ).parameters
    needed = ["--labels", "x"] if name == "zero-shot" else []
    args = commands.parse_args([name, "model", *needed])
    for option in COMMANDS[name].options:
        given = getattr(args, commands.name_of(option))
        assert option.flag == "--labels" or given == parameters[commands.name_of(option)].default


def test_pairs_go_as_tuples(call, electra):
    electra.classify.side_effect = lambda pairs, top_k: pairs
    assert call("classify", "one\ttwo\nx\n", "--pairs")[:2] == (
        "fairseq-electra classify: 1 of 2 lines had no answer",
        ['["one", "two"]'],
    )
    assert call("explain", "one\ttwo", "--pairs")[1] == ['{"text": ["one", "two"]}']


def test_how_the_model_is_loaded(call, electra):
    call("tag", "a", "--device", "cpu", "--precision", "bf16", "--data", "folder")
    assert electra.asked == [("model", "cpu", "bf16", Path("folder"))]


def test_broken_lines_are_named_and_the_others_answered(call, monkeypatch):
    monkeypatch.setattr(commands, "CHUNK", 5)
    lines = [f"line {n}".encode() for n in range(1, 24)]
    lines[0] = b"\xef\xbb\xbf" + lines[0]  # a byte-order mark
    lines[3], lines[6], lines[7], lines[22] = b"bad", b"\xff", b"worse, bad", b"bad\r"
    status, out, err = call("replaced", b"\n".join(lines))
    right = [n for n in range(1, 24) if n not in (4, 7, 8, 23)]
    assert [json.loads(line) for line in out] == [f"line {n}" for n in right]
    reason = "it is bad: mend it"
    assert err.splitlines() == [  # of a chunk, first what cannot be read
        f"fairseq-electra replaced: line {n}: {why}"
        for n, why in (
            *((4, reason), (7, "not UTF-8 text (byte 1)")),
            *((8, reason), (23, reason)),
        )
    ]
    assert status == "fairseq-electra replaced: 4 of 23 lines had no answer"
    status, out, err = call("summarize", b"\n".join(lines))  # one by one
    assert [json.loads(line) for line in out] == [[f"line {n}"] for n in right]
    assert err.count("\n") == 4 and "summarize: 4 of 23" in status


@pytest.mark.parametrize(
    ("name", "line", "reason"),
    [
        ("similarity", "one", "1 columns, not 2 separated by a tab"),
        ("similarity", "one\ttwo\tthree", "3 columns, not 2"),
        ("answer", "what?", "not JSON: Expecting value"),
        ("answer", '{"question": "q"}', 'not of the form {"question": "...", "context": "..."}'),
        ("answer", '["q", "c"]', "not of the form"),
        ("answer", "[" * 100_000, "not JSON"),
    ],
)
def test_a_line_of_another_form_is_named(call, name, line, reason):
    status, out, err = call(name, f"{line}\n")
    assert f"{name}: line 1: {reason}" in err
    assert status.endswith("1 of 1 lines had no answer") and out == []


def test_what_no_line_can_do_is_told_once(call, electra):
    electra.tag.side_effect = ValueError("it has no head")
    assert call("tag", "a\nb\n") == ("fairseq-electra tag: it has no head", [], "")
    electra.explain.side_effect = ImportError("pip install fairseq_electra[hub]")
    assert call("explain", "a")[0] == "fairseq-electra explain: pip install fairseq_electra[hub]"
    assert "no/such" in main_message(["tag", "model", "no/such"])


def main_message(argv):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    return stop.value.code


def test_standard_input(electra, monkeypatch, capfd):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("中\nb".encode())))
    main(["replaced", "model"])
    assert capfd.readouterr().out == '"中"\n"b"\n'


def test_vectors_as_an_array(call, tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "CHUNK", 4)
    lines = "".join(f"{'x' * n}\n" for n in range(11)) + "bad\n"
    out = tmp_path / "out.npy"
    status, printed, _ = call("embed", lines, "--out", out)
    assert status == "fairseq-electra embed: 1 of 12 lines had no answer" and printed == []
    rows = np.load(out)
    assert rows.dtype == np.float32 and not list(tmp_path.glob("*.partial"))
    np.testing.assert_array_equal(rows, embed(["x" * n for n in range(11)]))
    assert "out.npy exists already" in call("embed", lines, "--out", out)[0]


def test_pages(call, tmp_path):
    assert call("explain", "one\nbad\ntwo\n", "--html", tmp_path / "why.html")[1] == [
        '{"text": "one"}',
        '{"text": "two"}',
    ]
    assert (tmp_path / "why.html").read_text() == "<p>one"
    assert (tmp_path / "why-2.html").read_text() == "<p>two"


def test_lines_are_read_when_they_are_needed():
    """An endless input: no more than a chunk is taken at a time."""
    taken = []
    chunks = cut_chunks((taken.append(n) or b"x\n" for n in range(10**9)), 3)
    assert [next(chunks), next(chunks)] == [[b"x\n"] * 3] * 2
    assert len(taken) == 6


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("tag", ["model", "words.txt", "--conll", "--tag-column", "none"]),
        ("answer", ["model", "dev.json", "--out", "out.json"]),
        ("answer", ["model", "dev", "--out=out"]),
        ("answer", ["--squad", "model", "dev", "--out", "out"]),
    ],
)
def test_files_of_tasks_go_to_the_commands_for_them(monkeypatch, module, arguments):
    called = []
    monkeypatch.setattr(f"fairseq_electra.hub.{module}.run", called.append)
    main([module, *arguments])
    assert called[0].checkpoint == Path("model") and called[0].input.name in "words.txt dev.json"


# --- as a user calls them, with a model


def test_a_model_from_the_shell(tagger_path, tmp_path):
    (tmp_path / "in.txt").write_bytes(b"The cat sees it.\n\xff\n\nAn old dog!\n")
    (tmp_path / "words.txt").write_text("the\ncat\n")
    command = (sys.executable, "-m", "fairseq_electra", "tag", tagger_path)
    done = run(*command, tmp_path / "in.txt", check=False)
    *printed, wrong, summary = sorted(done.output.splitlines(), key=lambda line: line[0] == "f")
    expected = hub.load(tagger_path).tag(["The cat sees it.", "", "An old dog!"])
    for line, found in zip(printed, expected, strict=True):
        for ours, theirs in zip(json.loads(line), found, strict=True):
            assert ours == {**theirs, "score": pytest.approx(theirs["score"], abs=1e-5)}
    assert (done.returncode, wrong, summary) == (
        1,
        "fairseq-electra tag: line 2: not UTF-8 text (byte 1)",
        "fairseq-electra tag: 1 of 4 lines had no answer",
    )
    done = run(*command, tmp_path / "words.txt", "--conll", "--tag-column", "none")
    assert done.output.startswith("the ") and "1 sentences, 2 words" in done.output


def test_head_and_ctrl_c_end_it_quietly(tagger_path, tmp_path):
    python = python_folder() / "bin" / "python"
    command = f"yes the cat | {python} -m fairseq_electra tag {tagger_path} | head -2"
    done = run("bash", "-c", command)
    assert len(done.output.splitlines()) == 2 and done.output.startswith("[")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    running = start("fairseq_electra", "tag", tagger_path, pipe)
    with pipe.open("wb") as lines:
        lines.write(b"the cat\n" * commands.CHUNK)
        lines.flush()
        wait_for(lambda: running.output or None, timeout=60)
        running.send(signal.SIGINT)
        assert running.wait(60) == 130
    assert "Traceback" not in running.output
