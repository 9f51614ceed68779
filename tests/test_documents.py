"""What README, CONTRIBUTING and docs/ name is there: scripts, files, links, anchors, options."""

import ast
import re

import pytest
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

from tiny import ROOT

DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
)


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_and_links_exist(name):
    text = read(name)
    named = re.findall(r"(?:\./)?((?:scripts|tests|fairseq_electra)/[\w./-]*\w)", text)
    linked = [link for link in re.findall(r"\]\(([^)#]+)[)#]", text) if "://" not in link]
    for path in {
        *(ROOT / path for path in named),
        *((ROOT / name).parent / path for path in linked),
    }:
        assert path.exists(), path


ROOMS = sorted((ROOT / "fairseq_electra").rglob("__init__.py"))


@pytest.mark.parametrize("room", ROOMS, ids=lambda path: path.parent.name)
def test_files_that_a_room_names_exist(room):
    """In the docstring of the package itself; a path may be one of the repository too."""
    for name in re.findall(r"[\w/]+\.py\b", ast.get_docstring(ast.parse(room.read_text()))):
        assert (room.parent / name).is_file() or (ROOT / name).is_file(), name


def list_anchors(path):
    return {
        re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("#")
    }


@pytest.mark.parametrize("name", DOCUMENTS)
def test_anchors_exist(name):
    for page, anchor in re.findall(r"\]\(([\w./-]*)#([\w-]+)\)", read(name)):
        path = (ROOT / name).parent / page if page else ROOT / name
        assert anchor in list_anchors(path), (page, anchor)


@pytest.mark.parametrize("optimizer", ["electra_adam", "electra_lamb"])
def test_options_of_the_table_are_options(optimizer):
    """Every option of the page's tables, with its documented default."""
    page = read("docs/options.md").split("\n## Deviations")[0]
    section = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    documented = set(re.findall(r"--([a-z][a-z0-9-]+)", section)) - {*("optimizer", "lr-scheduler")}
    args = options.parse_args_and_arch(
        options.get_training_parser(),
        [
            *("nowhere", "--task", "electra", "--criterion", "electra", "--arch", "electra_small"),
            *("--optimizer", optimizer, "--lr-scheduler", "electra_decay"),
        ],
    )
    cfg = convert_namespace_to_omegaconf(args)
    sections = ("task", "criterion", "model", "optimizer", "lr_scheduler")
    known = {name for section in sections for name in cfg[section]}
    other = "lamb-" if optimizer == "electra_adam" else "adam-"
    for option in documented:
        if not option.startswith(other):
            assert option.replace("-", "_") in known
    assert (cfg.task.mask_prob, cfg.task.tokens_per_sample, cfg.model.temperature) == (
        0.15,
        512,
        1.0,
    )
    assert (cfg.criterion.gen_weight, cfg.criterion.disc_weight) == (1.0, 50.0)
