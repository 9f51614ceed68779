"""Draws a report of ELECTRA's replacements: lines for a terminal, or one self-contained HTML page.

In: a Report with laid out words. Out: the lines, with colours or without, or the page's source.
"""

import html
import textwrap
import unicodedata
from typing import Iterator, List, NamedTuple, Tuple

from fairseq_electra.runs.page import make_page
from fairseq_electra.runs.replacement_words import ROWS, Segment, Word

MEANINGS = {
    "original": "the text as it is",
    "masked": "what the generator reads: <mask> hides a token, (token) is picked but left visible",
    "sampled": "what the generator writes there; the discriminator reads the text with these",
    "judged": "how likely the discriminator thinks it that the token was replaced",
}
VERDICTS = {
    "found": "replaced, and judged so: 50% or more",
    "missed": "replaced, but judged original",
    "same": "the sample is the original: nothing was replaced, and judged so",
    "alarm": "original, but judged replaced: a false alarm",
}
ANSI = {
    "label": "2",
    "title": "1",
    "special": "2",
    "picked": "1",
    "mask": "7",
    "kept": "4",
    "replaced": "1;33",
    "found": "1;32",
    "missed": "31",
    "alarm": "1;35",
    "same": "36",
}
INDENT = 10  # columns of the rows' names
NARROWEST = 20  # columns that are filled even where the terminal has fewer


class Sentence(NamedTuple):
    """A title, the words, and counts in a line."""

    title: str
    words: List[Word]
    counts: str


class Report(NamedTuple):
    """All that is shown."""

    title: str
    sentences: List[Sentence]
    summary: List[str]  # paragraphs


def paint(text: str, style: str, colour: bool) -> str:
    """The text, in the style's colour if colours are wanted."""
    return f"\x1b[{ANSI[style]}m{text}\x1b[0m" if colour and style in ANSI else text


def render_text(report: Report, width: int, colour: bool) -> str:
    """The report for a terminal of so many columns."""
    lines = [paint(report.title, "title", colour), "", *render_legend(width, colour)]
    for sentence in report.sentences:
        lines += ["", paint(sentence.title, "title", colour), ""]
        for band in fill_bands(sentence.words, width - INDENT):
            lines += [*render_band(band, colour), ""]
        lines += textwrap.wrap(sentence.counts, max(width, NARROWEST))
    lines += ["", paint("all shown", "title", colour), ""]
    for paragraph in report.summary:
        lines += textwrap.wrap(paragraph, max(width, NARROWEST))
    return "\n".join(lines)


def render_legend(width: int, colour: bool) -> Iterator[str]:
    """What the rows and the verdicts mean."""
    entries = [(f"{row:{INDENT}}", "label", MEANINGS[row]) for row in ROWS]
    entries += [(f"{'':{INDENT}}{key:8}", key, meaning) for key, meaning in VERDICTS.items()]
    for head, style, meaning in entries:
        first, *others = textwrap.wrap(meaning, max(width - len(head), NARROWEST))
        yield paint(head, style, colour) + first
        yield from (" " * len(head) + line for line in others)


def fill_bands(words: List[Word], width: int) -> Iterator[List[Tuple[Word, int]]]:
    """Bands of as many words as fit into the width, each word with the columns that it takes."""
    band: List[Tuple[Word, int]] = []
    used = 0
    for word in words:
        columns = max(measure(segments) for segments in word.values())
        if band and used + columns > max(width, NARROWEST):
            yield band
            band, used = [], 0
        gap = 2 if word["judged"] else 1
        band.append((word, columns + gap))
        used += columns + gap
    if band:
        yield band


def measure(segments: List[Segment]) -> int:
    """Columns that the text takes in a terminal: two for a wide character, none for an accent."""
    return sum(measure_char(char) for segment in segments for char in segment.text)


def measure_char(char: str) -> int:
    """Columns of one character."""
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def render_band(band: List[Tuple[Word, int]], colour: bool) -> Iterator[str]:
    """The lines of a band; a row in which nothing happened is left out."""
    for row in ROWS:
        if not any(word[row] for word, _ in band):
            continue
        line = paint(f"{row:{INDENT}}", "label", colour)
        for word, columns in band:
            line += "".join(paint(segment.text, segment.style, colour) for segment in word[row])
            line += " " * (columns - measure(word[row]))
        yield line.rstrip()


BODY = """<h1>What ELECTRA did</h1>
<p class="note">{title}</p>
<p>Each grey box is a word of the text that was picked or suspected. From top to bottom:</p>
<dl>
{legend}
</dl>
{sentences}
<section>
<h2>All shown</h2>
{summary}
</section>"""
STYLE = """
:root {
  --replaced: #875000; --found: #14713a; --missed: #b3261e; --alarm: #8a2fa8; --same: #17647e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --replaced: #f0b45b; --found: #67cf8e; --missed: #ff8a80; --alarm: #dd9af2; --same: #77c6e0;
  }
}
.row-name { color: var(--faint); }
.verdict { padding-left: 1rem; }
.word { display: inline-block; vertical-align: top; margin-bottom: .4rem; }
.event { background: var(--box); border-radius: .3rem; padding: 0 .35rem .1rem; }
.row { display: block; white-space: pre; }
.masked, .judged { font-size: .8rem; line-height: 1.6; }
.special { color: var(--faint); }
.picked { font-weight: 600; }
.mask { background: var(--ink); color: var(--box); border-radius: .15rem; padding: 0 .15rem; }
.kept { border-bottom: 1px dashed; }
.replaced { color: var(--replaced); font-weight: 600; }
.found { color: var(--found); font-weight: 600; }
.missed { color: var(--missed); font-weight: 600; }
.alarm { color: var(--alarm); font-weight: 600; }
.same { color: var(--same); }
""".strip()


def render_html(report: Report) -> str:
    """The report as a page that needs no other file and runs no script."""
    legend = [("row-name", row, MEANINGS[row]) for row in ROWS]
    legend += [(f"verdict {verdict}", verdict, VERDICTS[verdict]) for verdict in VERDICTS]
    body = BODY.format(
        title=html.escape(report.title),
        legend="\n".join(
            f'<dt class="{classes}">{name}</dt><dd>{html.escape(meaning)}</dd>'
            for classes, name, meaning in legend
        ),
        sentences="\n".join(map(render_section, report.sentences)),
        summary="\n".join(f"<p>{html.escape(paragraph)}</p>" for paragraph in report.summary),
    )
    return make_page(f"What ELECTRA did: {report.title}", STYLE, body)


def render_section(sentence: Sentence) -> str:
    """One sentence of the page."""
    words = "\n".join(map(render_stack, sentence.words))
    return (
        f"<section>\n<h2>{html.escape(sentence.title)}</h2>\n<div>\n{words}\n</div>\n"
        f'<p class="note">{html.escape(sentence.counts)}</p>\n</section>'
    )


def render_stack(word: Word) -> str:
    """One word of the page: plain, or a box of rows where something happened."""
    rows = {row: "".join(map(render_segment, word[row])) for row in ROWS if word[row]}
    if len(rows) == 1:
        return f'<span class="word">{rows["original"]}</span>'
    lines = "".join(f'<span class="row {row}">{spans}</span>' for row, spans in rows.items())
    return f'<span class="word event">{lines}</span>'


def render_segment(segment: Segment) -> str:
    """A run of text that tells its token's story when the mouse is over it."""
    story, text = html.escape(segment.story).replace("\n", "&#10;"), html.escape(segment.text)
    return f'<span class="{segment.style}" title="{story}">{text}</span>'
