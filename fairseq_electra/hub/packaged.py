"""Print the folder of a model that the package has; without a name, list them."""

import argparse
from typing import List

from fairseq_electra import hub


def parse_args(argv: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", metavar="NAME")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    if args.name is None:
        print("\n".join(hub.list_models()))
    else:
        print(hub.model_path(args.name))
