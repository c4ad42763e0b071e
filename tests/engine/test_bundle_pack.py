"""A bundle packed into one file is the same bundle where it is fetched."""

import os

import pytest

from modelops_dask.bundle import fetch
from modelops_dask.bundle.pack import pack
from study_helpers import KNOBS


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    (folder / "data").mkdir(parents=True)
    (folder / "wire.py").write_text("def wire(entrypoint, params, seed): return {}\n")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "data" / "größe.csv").write_bytes(os.urandom(5000))
    (folder / "latest.csv").symlink_to("data/größe.csv")
    return folder


def test_a_packed_bundle_has_the_same_digest(model, tmp_path):
    here = fetch(str(model), tmp_path / "here")
    (tmp_path / "sent.tar.gz").write_bytes(pack(here))
    there = fetch(str(tmp_path / "sent.tar.gz"), tmp_path / "there", expected=here.digest)
    assert there.digest == here.digest
    assert os.access(there.path / "run.sh", os.X_OK)
    assert (there.path / "latest.csv").readlink().name == "größe.csv"


def test_what_a_model_wrote_into_the_cache_is_not_carried_along(model, tmp_path):
    here = fetch(str(model), tmp_path / "here")
    before = pack(here)
    (here.path / "scratch.npy").write_bytes(b"left behind")
    assert pack(here) == before


def test_the_same_tree_packs_to_the_same_bytes(tmp_path):
    one, other = fetch(str(KNOBS), tmp_path / "one"), fetch(str(KNOBS), tmp_path / "other")
    os.utime(other.path / "wire.py", (1, 1))
    assert pack(one) == pack(other)


def test_a_bundle_that_is_nothing_but_a_package_comes_back_whole(tmp_path):
    """An archive with one folder is looked through, unless that folder is the bundle's only one."""
    (tmp_path / "source" / "models").mkdir(parents=True)
    (tmp_path / "source" / "models" / "sir.py").write_text("def simulate(): return 1\n")
    bundle = fetch(str(tmp_path / "source"), tmp_path / "cache")
    archive = tmp_path / "bundle.tar.gz"
    archive.write_bytes(pack(bundle))
    again = fetch(str(archive), tmp_path / "elsewhere", bundle.digest)
    assert (again.digest, (again.path / "models" / "sir.py").is_file()) == (bundle.digest, True)
