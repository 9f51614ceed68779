"""Shows an Explanation: lines for a terminal, one self-contained HTML page, a frame in a notebook.

In: an Explanation. Out: the lines, or the source. Orange adds, blue takes away, which most
colour-blind readers can tell apart; sign, underline and number say the same.
"""

import html
from typing import TYPE_CHECKING, Iterator, Sequence

from fairseq_electra.runs.page import make_page

if TYPE_CHECKING:
    from fairseq_electra.hub.explanations import Explanation, Word

BAR = 10  # columns of the longest bar in a terminal
LEAST_SHOWN = 0.1  # of the greatest attribution: below that the number is in the table alone
SUSPICIOUS = 0.5  # probability of being replaced

BODY = """<h1>{headline}</h1>
<p class="note">{sum}</p>
{texts}
<dl>
{legend}
</dl>
<details>
<summary>All numbers</summary>
<div class="wide">
<table>
<tr><th scope="col">word</th>{heads}<th scope="col">pieces</th></tr>
{rows}
</table>
</div>
</details>"""
STYLE = """
:root { --more: 213 94 0; --less: 0 114 178; --more-line: #b04a00; --less-line: #0063a3; }
@media (prefers-color-scheme: dark) {
  :root { --more-line: #ff9d4d; --less-line: #5cb3f0; }
}
h1 { overflow-wrap: anywhere; }
.words { list-style: none; margin: 1.5rem 0; padding: 0; line-height: 1.3; }
.words li {
  display: inline-block; vertical-align: top; min-width: 1ch; margin: 0 0 .5rem; padding: 0 .15rem;
  border-radius: .2rem .2rem 0 0; text-align: center; overflow-wrap: anywhere;
}
.number { display: block; min-height: 1.3em; font-size: .75rem; direction: ltr; }
.number, table { font-variant-numeric: tabular-nums; }
.more { background: rgb(var(--more) / calc(var(--share) * .5)); }
.less { background: rgb(var(--less) / calc(var(--share) * .5)); }
.more.shown { border-bottom: 3px solid var(--more-line); }
.less.shown { border-bottom: 3px dashed var(--less-line); }
.judged { outline: 2px solid var(--ink); }
.replaced { text-decoration: underline wavy; text-decoration-skip-ink: none; }
.sample { --share: .6; padding: 0 .3rem; }
summary { cursor: pointer; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .2rem .9rem .2rem 0; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, th:last-child, td:last-child { text-align: left; }
td { white-space: nowrap; }
th[scope="row"] {
  font-weight: 400; min-width: 6rem; max-width: 12rem; overflow-wrap: anywhere;
}
""".strip()
FRAME = (
    '<iframe sandbox title="explanation" srcdoc="{page}" '
    'style="width: 100%; height: 26rem; border: 0"></iframe>'
)


def describe(explanation: "Explanation") -> str:
    """What was judged, and how."""
    label, value = explanation.label, explanation.probability
    if explanation.word is not None:
        word = f"“{explanation.words[explanation.word].text}”"
        label = f"{word} looks replaced" if explanation.head is None else f"{word} is {label}"
    if value is None:
        return f"{explanation.head} gives {explanation.logit:.3f}"
    return f"{label}: {value:.0%}"


def describe_sum(explanation: "Explanation") -> str:
    """How the logit comes about."""
    added = explanation.logit - explanation.baseline
    return (
        f"logit {explanation.logit:.2f}: {explanation.baseline:.2f} with padding in place of every "
        f"word, {added:+.2f} by the words (their sum is off by {abs(explanation.delta):.0e})"
    )


def find_greatest(words: Sequence["Word"]) -> float:
    """The greatest attribution by its size; 1 if all are 0."""
    return max((abs(word.attribution) for word in words), default=0.0) or 1.0


def render_text(explanation: "Explanation") -> str:
    """Lines for a terminal: a word a line."""
    words, greatest = explanation.words, find_greatest(explanation.words)
    has_replaced = any(word.replaced is not None for word in words)
    lines = [describe(explanation), describe_sum(explanation), ""]
    lines.append(f"{'adds':>7}  {'':{BAR}}  {'replaced  ' if has_replaced else ''}word")
    for number, word in enumerate(words):
        length = round(abs(word.attribution) / greatest * BAR)
        bar = ("+" if word.attribution > 0 else "-") * length
        replaced = f"{word.replaced:8.0%}  " if has_replaced else ""
        mark = "  <-" if number == explanation.word else ""
        lines.append(f"{word.attribution:+7.2f}  {bar:{BAR}}  {replaced}{word.text}{mark}")
    return "\n".join(map(show, lines))


def show(line: str) -> str:
    """A line with no character that would do something to a terminal."""
    return "".join(char if char.isprintable() else "\ufffd" for char in line)


def render_html(explanation: "Explanation") -> str:
    """A page that needs no other file and runs no script."""
    words = explanation.words
    has_replaced = any(word.replaced is not None for word in words)
    heads = ["adds", "replaced"] if has_replaced else ["adds"]
    headline = describe(explanation)
    body = BODY.format(
        headline=html.escape(headline),
        sum=html.escape(describe_sum(explanation)),
        texts="\n".join(
            render_words(explanation, number) for number in range(len(explanation.texts))
        ),
        legend="\n".join(render_legend(explanation, has_replaced)),
        heads="".join(f'<th scope="col">{head}</th>' for head in heads),
        rows="\n".join(render_row(explanation, word) for word in words),
    )
    return make_page(headline, STYLE, body)


def render_words(explanation: "Explanation", sentence: int) -> str:
    """One text of the page: its words as a list, with white space where the text has it."""
    greatest = find_greatest(explanation.words)
    items = []
    end = 0
    for number, word in enumerate(explanation.words):
        if word.sentence != sentence:
            continue
        items += ["\n" if word.start > end else ""]
        items += [render_word(word, greatest, number == explanation.word)]
        end = word.end
    return f'<ul class="words" role="list" dir="auto">{"".join(items)}\n</ul>'


def render_word(word: "Word", greatest: float, is_judged: bool) -> str:
    """A word, coloured by what it adds; all its numbers are in its tooltip."""
    share = abs(word.attribution) / greatest
    classes = ["more" if word.attribution > 0 else "less"]
    classes += ["shown"] if share >= LEAST_SHOWN else []
    classes += ["judged"] if is_judged else []
    story = f"{word.text}: adds {show_signed(word.attribution, 3)}"
    text = html.escape(word.text)
    if word.replaced is not None:
        story += f", {word.replaced:.0%} likely to be replaced"
        if word.replaced >= SUSPICIOUS:
            text = f'<span class="replaced">{text}</span>'
    story = html.escape(story)
    number = show_signed(word.attribution) if share >= LEAST_SHOWN else ""
    return (
        f'<li class="{" ".join(classes)}" style="--share: {share:.2f}" title="{story}" '
        f'aria-label="{story}">{text}<span class="number">{number}</span></li>'
    )


def show_signed(number: float, places: int = 2) -> str:
    """A number with its sign; minus is as wide as plus."""
    return f"{number:+.{places}f}".replace("-", "\u2212")


def render_legend(explanation: "Explanation", has_replaced: bool) -> Iterator[str]:
    """What colours and lines mean."""
    what = "the number" if explanation.probability is None else "this"
    entries = [
        ("more shown sample", "+", f"speaks for {what}: adds to the logit"),
        ("less shown sample", "\u2212", f"speaks against {what}: takes from it"),
    ]
    if explanation.word is not None:
        entries.append(("judged sample", "word", "the one that is judged"))
    if has_replaced:
        entries.append(("replaced", "word", "more likely replaced than not"))
    for classes, sample, meaning in entries:
        yield f'<dt><span class="{classes}">{sample}</span></dt><dd>{meaning}</dd>'


def render_row(explanation: "Explanation", word: "Word") -> str:
    """A word's line of the table."""
    cells = [show_signed(word.attribution, 3)]
    cells += [] if word.replaced is None else [f"{word.replaced:.1%}"]
    pieces = explanation.tokens[word.first : word.last]
    cells.append(
        html.escape(" ".join(f"{each.piece} {show_signed(each.attribution)}" for each in pieces))
        if len(pieces) > 1
        else ""
    )
    columns = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr><th scope="row">{html.escape(word.text)}</th>{columns}</tr>'


def render_frame(explanation: "Explanation") -> str:
    """The page in a frame, which keeps its style apart from a notebook's."""
    return FRAME.format(page=html.escape(render_html(explanation)))
