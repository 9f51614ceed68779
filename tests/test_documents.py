"""What README and CONTRIBUTING name is there: scripts, files, links, options."""

import ast
import re

import pytest
from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

from tiny import ROOT

DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/answers.md",
    "docs/conversion.md",
    "docs/distributed.md",
    "docs/evidence.md",
    "docs/finetuning_sentences.md",
    "docs/objectives.md",
    "docs/performance.md",
    "docs/reliability.md",
    "docs/small-runs.md",
    "docs/tagging.md",
)


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_and_links_exist(name):
    text = read(name)
    named = re.findall(r"(?:\./)?((?:scripts|tests|fairseq_electra)/[\w./-]*\w)", text)
    linked = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert named
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


def test_anchors_exist():
    headings = {
        re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in read("README.md").splitlines()
        if line.startswith("#")
    }
    for anchor in re.findall(r"\]\(#([\w-]+)\)", read("README.md")):
        assert anchor in headings


@pytest.mark.parametrize("optimizer", ["electra_adam", "electra_lamb"])
def test_options_of_the_table_are_options(optimizer):
    """Every option between the heading Options and the next, with its documented default."""
    section = read("README.md").split("## Options")[1].split("\n## ")[0]
    documented = set(re.findall(r"--([a-z][a-z0-9-]+)", section)) - {
        *("task", "arch", "optimizer", "lr-scheduler", "fp16", "amp", "fp16-no-flatten-grads")
    }
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
