"""The wheel in an environment of its own, away from the checkout: data, training, labels."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tiny import ROOT, TINY_OPTIONS

WORDS = ["the", "cat", "dog", "sees", "a", "bird", "and", "old", "fish", "near", "two", "trees"]


def call(*command, cwd: Path) -> str:
    """What a command prints, run where nothing of the checkout is found."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    env.update(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet")
    source = folder / "source"  # a build leaves folders behind
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "fairseq_electra", source / "fairseq_electra")
    call(*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source, cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel) -> Path:
    """A folder with bin/, which has the wheel and, by a path, what else is installed here."""
    folder = wheel.parent / "environment"
    call(sys.executable, "-m", "venv", "--without-pip", folder, cwd=wheel.parent)
    python = folder / "bin" / "python"
    site = call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
    others = Path(site.strip()) / "others.pth"
    others.write_text(sysconfig.get_path("purelib") + "\n")
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    call(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    return folder


@pytest.mark.campaign
def test_what_is_in_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
    assert "fairseq_electra/config/electra_small.yaml" in names
    assert "fairseq_electra/pretrained/electra_tiny_en/checkpoint.pt" in names
    assert any(name.endswith("LICENSE") for name in names)
    assert not any(name.startswith(("tests/", "scripts/")) for name in names)
    assert "License" in text and "# fairseq_electra" in text
    plots = [line for line in text.splitlines() if line.startswith("Requires-Dist: matplotlib")]
    assert plots and all("extra ==" in line for line in plots)


@pytest.mark.campaign
@pytest.mark.skipif(not shutil.which("twine"), reason="needs twine on the path")
def test_an_index_would_take_both(wheel):
    source = wheel.parent / "source"
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(wheel.parent)!r})"
    call(sys.executable, "-c", build, cwd=source)
    (sdist,) = wheel.parent.glob("*.tar.gz")
    call("twine", "check", "--strict", wheel, sdist, cwd=wheel.parent)


def prepare_data(command: Path, folder: Path) -> None:
    """A data-bin, `bin`, of 50 documents."""
    lines = [" ".join(WORDS[(n * k) % 12] for k in range(1, 11)) for n in range(200)]
    text = "\n\n".join("\n".join(lines[n : n + 4]) for n in range(0, 200, 4)) + "\n"
    (folder / "text.txt").write_text(text)
    call(command, "prepare-data", "bin", "text.txt", "--vocab-size", 80, cwd=folder)


@pytest.mark.campaign
def test_data_training_and_export(environment, tmp_path):
    command, python = environment / "bin" / "fairseq-electra", environment / "bin" / "python"
    prepare_data(command, tmp_path)
    user_dir = call(command, "user-dir", cwd=tmp_path).strip()
    assert Path(user_dir).is_relative_to(environment)
    options = (
        *("bin", "--user-dir", user_dir, "--cpu", "--task", "electra", "--criterion", "electra"),
        *("--arch", "electra_tiny", *TINY_OPTIONS, "--optimizer", "electra_adam", "--lr", "1e-3"),
        *("--max-update", 3, "--tokens-per-sample", 32, "--batch-size", 8, "--num-workers", 0),
        *("--save-dir", "save"),
    )
    call(python, "-m", "fairseq_cli.train", *options, cwd=tmp_path)
    checkpoint = "save/checkpoint_last.pt"
    validate = ("bin", "--user-dir", user_dir, "--cpu", "--path", checkpoint, "--task", "electra")
    validate += ("--tokens-per-sample", 32, "--batch-size", 8)
    call(python, "-m", "fairseq_cli.validate", *validate, cwd=tmp_path)
    call(command, "show", checkpoint, "--html", "page.html", cwd=tmp_path)
    assert (tmp_path / "page.html").stat().st_size > 1000
    pytest.importorskip("transformers", reason="needs the extra hf")
    call(command, "export-hf", checkpoint, "hf", cwd=tmp_path)
    assert (tmp_path / "hf" / "discriminator" / "model.safetensors").exists()


@pytest.mark.campaign
def test_the_model_that_comes_along(environment, tmp_path):
    (tmp_path / "text.txt").write_text("She won the gold medal at the 1996 Olympic river.\n")
    command = environment / "bin" / "fairseq-electra"
    output = call(command, "replaced", "electra_tiny_en", "text.txt", cwd=tmp_path)
    words = json.loads(output.strip().splitlines()[-1])
    assert max(words, key=lambda word: word["score"])["word"] == "river"


@pytest.mark.campaign
def test_labels(environment, tmp_path):
    command, python = environment / "bin" / "fairseq-electra", environment / "bin" / "python"
    prepare_data(command, tmp_path)
    for split in ("train", "valid"):
        rows = [f"{n % 2}\t{WORDS[n % 12]} {WORDS[n % 5]}\n" for n in range(40)]
        (tmp_path / f"{split}.tsv").write_text("".join(rows))
    call(command, "prepare-task", "task", "bin", ".", cwd=tmp_path)
    user_dir = call(command, "user-dir", cwd=tmp_path).strip()
    options = (
        *("task", "--user-dir", user_dir, "--cpu", "--task", "sentence_prediction"),
        *("--criterion", "sentence_prediction", "--arch", "electra_tiny", *TINY_OPTIONS),
        *("--num-classes", 2, "--init-token", 0, "--optimizer", "electra_adam", "--lr", "1e-3"),
        *("--max-update", 2, "--batch-size", 8, "--num-workers", 0, "--save-dir", "save"),
    )
    call(python, "-m", "fairseq_cli.train", *options, cwd=tmp_path)
    labels = call(command, "predict", "save/checkpoint_last.pt", "task", cwd=tmp_path).split()
    assert len(labels) == 40 and set(labels) <= {"0", "1"}
