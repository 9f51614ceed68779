"""What an explanation looks like: every number is there, nothing comes from elsewhere."""

import html
import re
from html.parser import HTMLParser

import pytest

from fairseq_electra.hub.explanation_page import STYLE
from fairseq_electra.hub.explanations import Explanation, Token, Word
from fairseq_electra.runs.page import STYLE as SHARED_STYLE

TEXT = "Good, badly <b>."
TOKENS = (
    Token("good", 0, 0, 4, 0.1, 2.0),
    Token(",", 0, 4, 5, 0.2, 0.001),
    Token("bad", 0, 6, 9, 0.3, -2.0),
    Token("##ly", 0, 9, 11, 0.75, 1.0),
    Token("<b>", 0, 12, 15, 0.5, -0.5),
    Token(".", 0, 15, 16, 0.0, 0.0),
)
WORDS = (
    Word("Good", 0, 0, 4, 0, 1, 0.1, 2.0),
    Word(",", 0, 4, 5, 1, 2, 0.2, 0.001),
    Word("badly", 0, 6, 11, 2, 4, 0.75, -1.0),
    Word("<b>", 0, 12, 15, 4, 5, 0.5, -0.5),
    Word(".", 0, 15, 16, 5, 6, 0.0, 0.0),
)
REPLACED = Explanation((TEXT,), TOKENS, WORDS, None, None, 2, 0.75, 1.0986, 0.5976, 0.00001)


def drop_replaced(rows):
    return tuple(row._replace(replaced=None) for row in rows)


OF_HEAD = Explanation(
    *((TEXT,), drop_replaced(TOKENS), drop_replaced(WORDS)),
    *("mood", "happy", None, 0.9, 2.2, 1.699, -0.00001),
)


class Page(HTMLParser):
    """Open tags, attributes and shown text of a page."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], "", []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data


def test_lines_for_a_terminal():
    assert str(REPLACED).splitlines() == [
        "“badly” looks replaced: 75%",
        "logit 1.10: 0.60 with padding in place of every word, +0.50 by the words "
        "(their sum is off by 1e-05)",
        "",
        "   adds              replaced  word",
        "  +2.00  ++++++++++       10%  Good",
        "  +0.00                   20%  ,",
        "  -1.00  -----            75%  badly  <-",
        "  -0.50  --               50%  <b>",
        "  +0.00                    0%  .",
    ]
    assert str(OF_HEAD).splitlines()[0] == "happy: 90%"
    assert str(OF_HEAD).splitlines()[3:5] == [
        "   adds              word",
        "  +2.00  ++++++++++  Good",
    ]


def test_a_terminal_gets_no_control_characters():
    word = WORDS[0]._replace(text="a\x1b[2Jb\u202e")
    shown = str(Explanation((TEXT,), TOKENS[:1], (word,), "h", "x\n", None, 0.5, 1.0, 0.0, 0.0))
    assert "a\ufffd[2Jb\ufffd" in shown and len(shown.splitlines()) == 5


def test_the_page_has_every_number():
    page = Page(REPLACED.html())
    assert page.open == []
    stories = [value for name, value in page.attributes if name == "title"]
    assert stories == [value for name, value in page.attributes if name == "aria-label"]
    assert stories[0] == "Good: adds +2.000, 10% likely to be replaced"
    assert stories[2] == "badly: adds \u22121.000, 75% likely to be replaced"
    assert len(stories) == len(WORDS)
    for shown in ("“badly” looks replaced: 75%", "bad \u22122.00 ##ly +1.00", "75.0%", "+0.001"):
        assert shown in page.text
    shares = [float(value.split()[1]) for name, value in page.attributes if name == "style"]
    assert shares == [1, 0, 0.5, 0.25, 0]
    marks = [value for name, value in page.attributes if name == "class"]
    assert {"more shown", "less shown judged", "less shown", "more"} <= set(marks)
    assert 'class="replaced">badly</span>' in REPLACED.html()
    assert "replaced" not in Page(OF_HEAD.html()).text


def test_a_page_keeps_the_texts_spaces():
    page = Page(re.sub('<span class="number">.*?</span>', "", REPLACED.html()))
    assert "\nGood,\nbadly\n<b>.\n" in page.text
    two = OF_HEAD.words[0]._replace(sentence=1)
    pair = Explanation(
        *((TEXT, "Good"), OF_HEAD.tokens, (*OF_HEAD.words, two)),
        *("mood", "happy", None, 0.9, 2.2, 1.7, 0.0),
    )
    assert Page(pair.html()).tags.count("ul") == 2


def test_a_page_is_one_file_and_escapes_text():
    evil = "\"'><script>alert(1)</script>&amp;{x}"
    word = WORDS[0]._replace(text=evil, last=2)
    tokens = (TOKENS[0]._replace(piece=evil), TOKENS[1])
    explanation = Explanation((evil,), tokens, (word,), None, evil, 0, 0.5, 1.0, 0.0, 0.0)
    source = explanation.html()
    page = Page(source)
    assert page.open == []
    assert page.text.count(evil) == 5  # title, headline, word, both columns of the table
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert not {"src", "href", "onload", "onclick"} & {name for name, _ in page.attributes}
    assert (
        "url(" not in source
        and "@import" not in source
        and "http" not in source.replace("http-equiv", "")
    )


def test_a_notebook_gets_the_page_in_a_frame():
    frame = Page(REPLACED._repr_html_())
    assert frame.tags == ["iframe"]
    attributes = dict(frame.attributes)
    assert attributes["srcdoc"] == REPLACED.html() and "sandbox" in attributes
    assert html.unescape(REPLACED._repr_html_()).count("<body>") == 1


def test_a_text_without_words():
    empty = Explanation(("",), (), (), "mood", "happy", None, 0.9, 2.2, 2.2, 0.0)
    assert str(empty).startswith("happy: 90%") and Page(empty.html()).open == []


# --- colours, by the formulas of WCAG 2.1


def read_colours(is_dark):
    """What the style's variables are, as red, green and blue in [0, 1]."""
    found = {}
    for style in (SHARED_STYLE, STYLE):
        light, dark = re.search(
            r":root \{(.*?)\}.*?prefers-color-scheme: dark\) \{\s*:root \{(.*?)\}", style, re.DOTALL
        ).groups()
        for name, value in re.findall(r"--([\w-]+): ([^;]+);", light + (dark if is_dark else "")):
            numbers = (
                [int(value[place : place + 2], 16) for place in (1, 3, 5)]
                if value.startswith("#")
                else list(map(int, value.split()))
            )
            found[name] = [number / 255 for number in numbers]
    return found


def contrast(one, other):
    def luminance(colour):
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in colour]
        return sum(weight * x for weight, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("is_dark", [False, True])
def test_contrasts_are_enough(is_dark):
    """4.5 for text, 3 for lines that mean something (WCAG 2.1, AA)."""
    colours = read_colours(is_dark)
    page, ink = colours["page"], colours["ink"]
    assert contrast([0, 0, 0], [1, 1, 1]) == pytest.approx(21)
    assert contrast(ink, page) > 7 and contrast(colours["faint"], page) > 4.5
    strength = float(re.search(r"var\(--share\) \* ([\d.]+)", STYLE).group(1))
    for side in ("more", "less"):
        deepest = [strength * x + (1 - strength) * y for x, y in zip(colours[side], page)]
        assert contrast(ink, deepest) > 4.5
        assert contrast(colours[f"{side}-line"], page) > 3
