"""Find the documentation inside installed Python packages without importing or running them.

In: package names. Out: (package, module name, file), and for a file its long documentation
strings: docstrings, and the literals that numpy's and torch's own tools attach to compiled code.
"""

import ast
import importlib.util
import os
import re
import sysconfig
import warnings
from pathlib import Path
from typing import Iterator, List, NamedTuple

# What the dependencies bring along, with "python" for the standard library. A fixed list, so
# that the corpus does not grow with whatever else is installed.
PACKAGES = (
    *("python", "torch", "numpy", "scipy", "sklearn", "sympy", "networkx", "matplotlib"),
    *("mpl_toolkits", "mpmath", "fairseq", "hydra", "omegaconf", "tokenizers", "sentencepiece"),
    *("huggingface_hub", "narwhals", "joblib", "fontTools", "PIL", "fsspec", "jinja2", "anyio"),
    *("click", "pyparsing", "dateutil", "packaging", "sacrebleu", "tqdm", "setuptools"),
)
SKIPPED_FOLDERS = {"test", "tests", "testing", "idle_test", "site-packages", "lib2to3", "_vendor"}
SHORTEST = 80  # characters; shorter ones rarely hold a whole sentence

# Only the literals are read, which is ten times faster than parsing whole files. Comments and
# one-line strings are matched too, so that quotes inside them start nothing.
LITERAL = re.compile(
    r"""
    \#[^\n]*
    | (?P<doc> (?<!\w)[a-zA-Z]{0,2} (?: "{3}(?:[^\\]|\\.)*?"{3} | '{3}(?:[^\\]|\\.)*?'{3} ) )
    | "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*'
    """,
    re.DOTALL | re.VERBOSE,
)


class Module(NamedTuple):
    """One Python source file: its top package ("python" for the standard library) and name."""

    package: str
    name: str
    path: Path


def find_roots(package: str) -> List[Path]:
    """The folders of an installed package, or its only file; [] if it is not installed."""
    if package == "python":
        return [Path(sysconfig.get_paths()["stdlib"])]
    spec = importlib.util.find_spec(package)
    if spec is None:
        return []
    if spec.submodule_search_locations:
        return [Path(folder) for folder in spec.submodule_search_locations]
    return [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []


def find_modules(package: str) -> Iterator[Module]:
    """The package's source files in a fixed order, without tests and bundled copies of others."""
    for root in find_roots(package):
        base = root if package == "python" else root.parent
        for path in sorted(list_sources(root)):
            name = ".".join(path.relative_to(base).with_suffix("").parts)
            yield Module(package, name.removesuffix(".__init__"), path)


def list_sources(root: Path) -> Iterator[Path]:
    """Python files below root, or root itself if it is one."""
    if root.is_file():
        yield root
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in SKIPPED_FOLDERS]
        yield from (Path(folder, name) for name in files if name.endswith(".py"))


def read_docstrings(path: Path) -> List[str]:
    """Long documentation strings of a source file in their order; [] if it cannot be read."""
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in other people's strings
        found = [evaluate(match["doc"]) for match in LITERAL.finditer(source) if match["doc"]]
    return [text for text in found if len(text) >= SHORTEST]


def evaluate(literal: str) -> str:
    """The text of a triple-quoted literal; "" for bytes, an f-string or a broken one."""
    try:
        text = ast.literal_eval(literal)
    except (SyntaxError, ValueError):
        return ""
    return text if isinstance(text, str) else ""
