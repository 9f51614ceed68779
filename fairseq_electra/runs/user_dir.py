"""Print the folder for fairseq-train's --user-dir: this package, wherever it is installed."""

import argparse
from pathlib import Path
from typing import List


def parse_args(argv: List[str]) -> argparse.Namespace:
    return argparse.ArgumentParser(description=__doc__).parse_args(argv)


def run(args: argparse.Namespace) -> None:
    print(Path(__file__).resolve().parents[1])
