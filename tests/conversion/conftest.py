"""A pair of networks as transformers writes it."""

import shutil

import pytest

from foreign import SHAPES, make_pair, save


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Folders of a discriminator and a generator."""
    folder = tmp_path_factory.mktemp("pair")
    discriminator, generator = make_pair(SHAPES[0])
    return save(discriminator, folder / "d"), save(generator, folder / "g")


@pytest.fixture
def copies(pair, tmp_path):
    """The same, to be changed."""
    return [shutil.copytree(folder, tmp_path / folder.name) for folder in pair]
