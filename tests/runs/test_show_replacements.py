"""show_replacements.py: what it says of a token, how it draws it, and that validation agrees."""

import json
import math
import re
import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
import torch
from fairseq.data import Dictionary
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_electra.__main__ import main
from fairseq_electra.data.tokenizer import SentencePieceTokenizer, load_wordpiece
from fairseq_electra.runs.render_replacements import (
    ROWS,
    Report,
    Sentence,
    fill_bands,
    measure_char,
    render_band,
    render_html,
    render_text,
)
from fairseq_electra.runs.replacement_words import (
    Token,
    count_tokens,
    describe_counts,
    lay_out_words,
    read_piece,
)
from fairseq_electra.runs.show_replacements import find_tokenizer, summarize
from tiny import ROOT

SCRIPT = ROOT / "scripts" / "show_replacements.py"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# joins pieces as SentencePiece does, without a trained model
SENTENCEPIECE = SimpleNamespace(join_words=lambda p: SentencePieceTokenizer.join_words(None, p))


def logit(probability):
    return math.log(probability / (1 - probability))


def left_alone(piece, probability=0.01):
    return Token(piece, False, False, piece, logit(probability))


def picked(piece, sample, probability, is_masked=True):
    return Token(piece, True, is_masked, sample, logit(probability))


TOKENS = [
    left_alone("<s>"),
    left_alone("▁the"),
    picked("▁chef", "▁artist", 0.9),
    left_alone("▁cook", 0.625),
    left_alone("ed"),
    left_alone("▁the"),
    left_alone("▁me"),
    picked("al", "▁an", 0.25),
    left_alone("."),
    picked("▁now", "▁now", 0.04, is_masked=False),
    left_alone("</s>"),
]


def lay_out(tokens):
    """Lines of the first band, without colours."""
    band = next(fill_bands(lay_out_words(tokens, SENTENCEPIECE), 200))
    return list(render_band(band, colour=False))


def make_report(tokens, title="title"):
    words = lay_out_words(tokens, SENTENCEPIECE)
    return Report(title, [Sentence("sentence 1 of 1", words, "counts")], ["summary"])


# --- what is said of a token ---


@pytest.mark.parametrize(
    ("token", "verdict"),
    [
        (picked("a", "b", 0.7), "found"),
        (picked("a", "b", 0.3), "missed"),
        (picked("a", "a", 0.3), "same"),
        (picked("a", "a", 0.7), "alarm"),
        (left_alone("a", 0.7), "alarm"),
        (left_alone("a", 0.3), ""),
        (Token("a", False, False, "a", 0.0), "alarm"),  # as the metrics of training count it
    ],
)
def test_verdict(token, verdict):
    assert token.verdict == verdict


def test_extreme_logits_have_probabilities():
    assert [Token("a", False, False, "a", x).probability for x in (-1e4, 0, 1e4)] == [0, 0.5, 1]


def test_counts_by_hand():
    counts = count_tokens(TOKENS)
    assert describe_counts(counts) == (
        "11 tokens, 3 picked (2 masked, 1 left visible), 2 replaced (1 sampled right): "
        "1 found, 1 missed, 1 false alarm"
    )


def test_summary_by_hand():
    """Of 11 tokens 9 are judged right; the replaced (.9, .25) beat 17 of the 18 possible pairs."""
    assert summarize(TOKENS)[1:] == [
        "generator: 33.3% of its samples are the original token",
        "discriminator: accuracy 81.8% (always saying original: 81.8%), precision 50.0%, "
        "recall 50.0%, AUC 0.944",
    ]


def test_summary_of_nothing_picked():
    assert summarize([left_alone("▁a"), left_alone("▁b")])[1:] == [
        "generator: - of its samples are the original token",
        "discriminator: accuracy 100.0% (always saying original: 100.0%), precision -, "
        "recall -, AUC -",
    ]


# --- pieces as words ---


def test_rows_by_hand():
    assert lay_out(TOKENS) == [
        "original  <s> the chef       cooked     the meal.       now      </s>",
        "masked            <mask>                    me<mask>.   (now)",
        "sampled           artist                    me an.      now",
        "judged            found 90%  alarm 62%      missed 25%  same 4%",
    ]


def test_a_sample_that_goes_on_with_the_word_before_says_so():
    _, _, sampled, _ = lay_out([left_alone("▁cook"), picked("▁now", "ing", 0.1)])
    assert sampled.split() == ["sampled", "…ing"]


def test_a_piece_without_letters_is_shown_only_where_it_was_picked():
    assert lay_out([left_alone("▁"), left_alone("x")]) == ["original  x"]
    original, masked, sampled, _ = lay_out([picked("▁", "▁a", 0.1, is_masked=False)])
    assert [line.split()[1] for line in (original, masked, sampled)] == ["␣", "(␣)", "a"]


def test_control_characters_do_not_reach_the_terminal():
    assert "\x1b" not in "".join(lay_out([left_alone("▁a\x1b[2Jb")]))


def test_wordpiece_text(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cook", "##ed", "."]))
    tokenizer = load_wordpiece(path)
    assert read_piece("cook", tokenizer) == ("cook", True)
    assert read_piece("##ed", tokenizer) == ("ed", False)
    assert read_piece("<unk>", tokenizer) == ("<unk>", True)


def test_the_data_bins_tokenizer_is_used(tmp_path, data_bin):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cook", "##ed"]))
    (tmp_path / "data").mkdir()
    load_wordpiece(path).save(tmp_path / "data")
    assert find_tokenizer(tmp_path / "data").kind == "wordpiece"
    assert find_tokenizer(data_bin) is None
    assert read_piece("w1", None) == ("w1", True)


# --- the terminal ---


PIECES = st.sampled_from(
    ["▁a", "▁word", "s", ".", "▁", "▁漢字", "e\u0301", "<unk>", "▁" + "x" * 30]
)
ANY_TOKENS = st.lists(
    st.builds(
        lambda piece, sample, is_picked, is_masked, value: Token(
            piece, is_picked, is_picked and is_masked, sample if is_picked else piece, value
        ),
        *(PIECES, PIECES, st.booleans(), st.booleans(), st.floats(-5, 5)),
    ),
    min_size=1,
    max_size=40,
)


@settings(deadline=None, max_examples=60)
@given(ANY_TOKENS, st.integers(30, 120))
def test_bands_fit_and_hold_all(tokens, width):
    words = lay_out_words(tokens, SENTENCEPIECE)
    bands = list(fill_bands(words, width))
    assert [word for band in bands for word, _ in band] == words
    for band in bands:
        plain, painted = (list(render_band(band, colour)) for colour in (False, True))
        assert [COLOUR.sub("", line).rstrip() for line in painted] == plain
        if len(band) > 1:
            assert max(sum(map(measure_char, line)) for line in plain) <= width + 10


@settings(deadline=None, max_examples=60)
@given(ANY_TOKENS)
def test_rows_stand_under_their_word(tokens):
    """Each word starts in the same column of every row that tells of it."""
    (band,) = fill_bands(lay_out_words(tokens, SENTENCEPIECE), 10**6)
    lines = {line.split()[0]: line for line in render_band(band, colour=False)}
    start = 10
    for word, columns in band:
        for row in ROWS:
            text = "".join(segment.text for segment in word[row])
            if text.strip():
                assert cut_columns(lines[row], start, columns).rstrip() == text.rstrip()
        start += columns


def cut_columns(line, start, columns):
    """The part of a line that a terminal shows in these columns."""
    column, part = 0, ""
    for char in line:
        # an accent belongs to the column before it
        place = column if measure_char(char) else column - 1
        if start <= place < start + columns:
            part += char
        column += measure_char(char)
    return part


def test_terminal_text_is_wrapped_and_explained():
    report = make_report(TOKENS)._replace(summary=["many words " * 30])
    text = render_text(report, 60, colour=False)
    assert max(map(len, text.splitlines())) <= 60
    for word in (*ROWS, "found", "missed", "alarm", "same", "title", "sentence 1 of 1", "counts"):
        assert word in text


# --- the page ---


class Page(HTMLParser):
    """Tags, tooltips and shown text of a page."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = set(), [], "", []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data


def test_page_tells_each_tokens_story():
    page = Page(render_html(make_report(TOKENS)))
    assert page.open == []
    stories = [value for name, value in page.attributes if name == "title"]
    assert (
        "original: chef\nmasked\nsampled: artist\nprobability of being replaced: 90.0% (found)"
        in stories
    )
    assert "original: ed\nprobability of being replaced: 1.0%" in stories
    for shown in ("<mask>", "artist", "found 90%", "missed 25%", "same 4%", "summary", "counts"):
        assert shown in page.text


def test_page_is_one_file_and_escapes_text():
    evil = "▁\"'><script>alert(1)</script>&amp;{x}"
    tokens = [left_alone(evil), picked(evil, evil + "b", 0.5)]
    page = Page(render_html(make_report(tokens, title=evil)))
    assert page.text.count(evil[1:]) > 3
    assert not page.tags & {"script", "link", "img", "iframe"}
    assert not {name for name, _ in page.attributes} & {"src", "href", "style", "onload"}
    assert "url(" not in render_html(make_report(tokens))


# --- the command, on a checkpoint ---


@pytest.fixture(scope="module")
def trained(data_bin, train_electra, tmp_path_factory):
    """A checkpoint, of a model with dropout, and what training printed."""
    save_dir = tmp_path_factory.mktemp("show")
    done = train_electra(data_bin, save_dir, "--max-update", 30, "--dropout", 0.1)
    return save_dir / "checkpoint_last.pt", done.output


@pytest.fixture
def edit_checkpoint(trained, tmp_path):
    """A function that saves a copy of the checkpoint with other options of its task."""

    def edit(**options):
        state = torch.load(trained[0])
        state["cfg"]["task"].update(options)
        torch.save(state, tmp_path / "edited.pt")
        return tmp_path / "edited.pt"

    return edit


@pytest.fixture
def show(capsys, monkeypatch):
    """A function that runs the command in this process and returns its stdout."""
    monkeypatch.setenv("COLUMNS", "100")

    def run_main(*arguments):
        main(["show", *map(str, arguments)])
        return capsys.readouterr().out

    return run_main


def test_shows_what_validation_measured(trained, show):
    """All sentences together give the numbers of the last validation of training."""
    checkpoint, output = trained
    text = " ".join(show(checkpoint, "--sentences", 1000).split())
    lines = [json.loads(line) for line in re.findall(r"\{.*valid_disc_auc.*\}", output)]
    expected = {key: float(value) for key, value in lines[-1].items() if "valid" in key}
    for name, pattern in {
        "sampled_acc": r"generator: ([\d.]+)%",
        "disc_acc": r"accuracy ([\d.]+)%",
        "disc_recall": r"recall ([\d.]+)%",
    }.items():
        shown = float(re.findall(pattern, text)[-1]) / 100
        assert shown == pytest.approx(expected[f"valid_{name}"], abs=6e-4), name
    assert float(re.findall(r"AUC ([\d.]+)", text)[-1]) == pytest.approx(
        expected["valid_disc_auc"], abs=6e-4
    )


def test_command_repeats_itself_without_colours(trained, data_bin, show):
    checkpoint, _ = trained
    text = show(checkpoint)
    assert show(checkpoint) == text
    assert "\x1b" not in text
    assert text.splitlines()[0] == f"{checkpoint} after 30 updates, valid of {data_bin}"
    assert len(re.findall(r"^sentence \d+ of \d+$", text, re.MULTILINE)) == 4


@pytest.mark.parametrize(
    ("is_terminal", "no_color", "options", "coloured"),
    [
        (True, "", [], True),
        (True, "1", [], False),
        (True, "", ["--no-color"], False),
        (False, "", [], False),
        (False, "1", ["--color"], True),
    ],
)
def test_colours(trained, show, monkeypatch, is_terminal, no_color, options, coloured):
    monkeypatch.setattr("sys.stdout.isatty", lambda: is_terminal)
    monkeypatch.setenv("NO_COLOR", no_color)
    assert ("\x1b[" in show(trained[0], "--sentences", 1, *options)) == coloured


def test_start_and_sentences_choose(trained, show):
    checkpoint, _ = trained
    whole = show(checkpoint, "--sentences", 5).split("\nsentence ")
    part = show(checkpoint, "--start", 3, "--sentences", 2).split("\nsentence ")
    assert part[1] == whole[3]
    assert part[2].split("\nall shown")[0].rstrip() == whole[4].rstrip()


def test_page_is_written_and_nothing_written_over(trained, show, tmp_path):
    checkpoint, _ = trained
    page = tmp_path / "page.html"
    show(checkpoint, "--sentences", 1, "--html", page)
    first = page.read_text(encoding="utf-8")
    assert "sentence 1 of" in Page(first).text
    with pytest.raises(SystemExit, match=r"page\.html exists already: .* --force"):
        show(checkpoint, "--sentences", 2, "--html", page)
    assert page.read_text(encoding="utf-8") == first
    show(checkpoint, "--sentences", 2, "--html", page, "--force")
    assert "sentence 2 of" in Page(page.read_text(encoding="utf-8")).text


def test_a_moved_data_bin_is_named_with_data(edit_checkpoint, data_bin, show):
    checkpoint = edit_checkpoint(data="/nowhere/data-bin")
    with pytest.raises(SystemExit, match=r"data-bin /nowhere/data-bin is not there.*--data"):
        show(checkpoint)
    assert f"valid of {data_bin}" in show(checkpoint, "--data", data_bin)


@pytest.mark.parametrize("task", ["masked_lm", "sentence_prediction"])
def test_other_tasks_checkpoints_are_refused(edit_checkpoint, show, task):
    with pytest.raises(SystemExit, match=f"--task {task} and has no generator"):
        show(edit_checkpoint(_name=task))


def test_a_run_that_was_compiled_is_shown_without(trained, show, tmp_path):
    """CUDA graphs, on the CPU."""
    state = torch.load(trained[0])
    state["cfg"]["model"]["compile"] = "reduce-overhead"
    torch.save(state, tmp_path / "compiled.pt")
    assert "sentence 1 of" in show(tmp_path / "compiled.pt", "--sentences", 1)


def test_a_first_stage_has_no_judgements_to_show(trained, show, tmp_path):
    state = torch.load(trained[0], weights_only=False)
    state["cfg"]["model"]["mlm_updates"] = 31
    torch.save(state, tmp_path / "early.pt")
    with pytest.raises(SystemExit, match=r"has made 30 updates.* before 31"):
        show(tmp_path / "early.pt")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", {"weight": torch.ones(2)}, [1]])
def test_other_files_are_refused(show, tmp_path, content):
    path = tmp_path / "other.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(SystemExit, match=r"other\.pt is not a whole checkpoint of fairseq"):
        show(path)


def test_a_checkpoint_that_lacks_tensors_is_refused(trained, show, tmp_path):
    state = torch.load(trained[0])
    del state["model"]["discriminator_head.dense.weight"]
    torch.save(state, tmp_path / "old.pt")
    with pytest.raises(SystemExit, match=r"old\.pt does not fit this version's model"):
        show(tmp_path / "old.pt")


def test_another_dictionary_is_refused_in_one_line(trained, data_bin, tmp_path, run_command):
    """In a process of its own: what fairseq and the plugin log must not come on top."""
    data = tmp_path / "data"
    data.mkdir()
    words = Dictionary.load(str(data_bin / "dict.txt")).symbols[4:]
    (data / "dict.txt").write_text("".join(f"{word} 1\n" for word in reversed(words)))
    for name in ("valid.bin", "valid.idx"):
        (data / name).write_bytes((data_bin / name).read_bytes())
    done = run_command(sys.executable, SCRIPT, trained[0], "--data", data, check=False)
    assert done.returncode == 1
    (line,) = done.output.splitlines()
    assert line.startswith(f"fairseq-electra show: {trained[0]} with {data}: ")
    assert "the checkpoint was trained with another dictionary" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "/nowhere"], r"--data /nowhere: no such folder"),
        (["--data", "."], r"no dict\.txt in \."),
        (["--split", "test"], r"--split test: .* has only train, valid$"),
        (["--start", "9999"], r"--start 9999: valid has \d+ sentences"),
        (["--html", "/nowhere/page.html"], r"--html /nowhere/page\.html: name a file in a folder"),
    ],
)
def test_wrong_options_are_explained(trained, show, options, message):
    with pytest.raises(SystemExit, match=message):
        show(trained[0], *options)


@pytest.mark.parametrize("option", ["--sentences", "--start"])
def test_counts_begin_at_one(show, capsys, option):
    with pytest.raises(SystemExit):
        show("checkpoint.pt", option, "0")
    assert f"{option}: 0 is not a whole number above 0" in capsys.readouterr().err


def test_a_missing_checkpoint_and_a_folder_are_named(show, tmp_path):
    with pytest.raises(SystemExit, match=r"missing\.pt: no such checkpoint"):
        show(tmp_path / "missing.pt")
    with pytest.raises(SystemExit, match=r"is a folder: name a checkpoint, such as .*best\.pt"):
        show(tmp_path)
