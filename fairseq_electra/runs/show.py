"""Shows what ELECTRA does with held-out text: what was masked, sampled and judged, word by word.

In: a pre-training checkpoint and a data-bin. Out: aligned lines and counts on stdout; with --html
also a page. Picks and samples are those of validation, so the same command prints the same.
"""

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import List

from fairseq_electra.runs.render_replacements import render_html, render_text

WIDTH = 100  # columns, where stdout is no terminal and COLUMNS is not set


def parse_count(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)


def parse_args(argv: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="of fairseq-train --task electra")
    parser.add_argument("--data", metavar="DATA_BIN", help="default: what it was trained on")
    parser.add_argument("--split", default="valid", help="default: %(default)s")
    parser.add_argument(
        "--sentences", type=parse_count, default=4, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--start", type=parse_count, default=1, metavar="N", help="first sentence, counted from 1"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page too")
    parser.add_argument("--force", action="store_true", help="write over --html FILE")
    parser.add_argument(
        "--color",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="default: if stdout is a terminal and NO_COLOR is not set",
    )
    return parser.parse_args(argv)


def check_html(path: Path, force: bool) -> None:
    """ValueError if a page cannot be written there, before the work is done."""
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"--html {path}: name a file in a folder that exists")
    if path.exists() and not force:
        raise ValueError(f"--html {path} exists already: name another file, or add --force")


def wants_colour(args: argparse.Namespace) -> bool:
    """What --color says, else what https://no-color.org says."""
    if args.color is not None:
        return args.color
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def run(args: argparse.Namespace) -> None:
    from fairseq_electra.runs.show_replacements import make_report

    if args.html:
        check_html(args.html, args.force)
    report = make_report(args)
    width = shutil.get_terminal_size((WIDTH, 0)).columns
    sys.stdout.reconfigure(errors="replace")  # text may hold what the terminal cannot show
    print(render_text(report, width, wants_colour(args)), flush=True)
    if args.html:
        with args.html.open("w" if args.force else "x", encoding="utf-8") as page:
            page.write(render_html(report))
        print(f"wrote {args.html}", file=sys.stderr)
