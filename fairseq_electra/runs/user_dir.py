"""Print the folder for fairseq-train's --user-dir: this package, wherever it is installed."""

import argparse
from pathlib import Path
from typing import List, Optional


def main(argv: Optional[List[str]] = None) -> None:
    argparse.ArgumentParser(description=__doc__).parse_args(argv)
    print(Path(__file__).resolve().parents[1])
