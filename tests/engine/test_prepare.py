"""A run has its environment built before its first task, and hears what the worker builds."""

from queue import SimpleQueue

import pytest

from executor_helpers import settings, write_bundle
from modelops_dask.bundle import fetch
from modelops_dask.environments.interpreters import NoPython
from modelops_dask.plan import spec
from modelops_dask.shape import Shape
from modelops_dask.store.files import Store
from modelops_dask.store.study import begin
from modelops_dask.study import prepare
from modelops_dask.study.batch import RunContext
from modelops_dask.workers.local import local_cluster
from package_helpers import write_wheel
from python_helpers import PROJECT


@pytest.fixture
def make_context(tmp_path, monkeypatch):
    """Make the context of a study whose bundle has these packages, from a folder."""
    write_wheel(tmp_path / "wheels", "tiny")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("UV_OFFLINE", "1")
    (tmp_path / "study.yaml").write_text("name: s\nmodel: m.f\nscenario: b\nreplicates: 2\nsets: [{x: 1}]\n")

    def make_context(name: str, project: str) -> RunContext:
        files = {"wire.py": "def wire(e, p, s): ...\n", "pyproject.toml": project}
        bundle = fetch(str(write_bundle(tmp_path / name, files)), tmp_path / "bundles")
        store = Store(str(tmp_path / f"{name}-store"))
        plan = begin(store, spec.load(tmp_path / "study.yaml"), bundle.digest)
        return RunContext(Store(store.location()), plan.request, bundle)

    return make_context


def test_a_driver_hears_what_its_own_worker_builds_and_what_it_built(tmp_path, make_context):
    context = make_context("model", PROJECT % (">=3.9", '"tiny"'))
    impossible = make_context("impossible", PROJECT % (">=3.30", ""))
    with local_cluster(Shape(1, 1, 1, 2**30), settings(tmp_path)) as client:
        with prepare._stages(client) as (run, stages):
            with pytest.raises(NoPython):
                client.submit(prepare.build, impossible, "of another run", pure=False).result()
            assert stages == [], "what others build on the same scheduler"
            prepared = client.submit(prepare.build, context, run, pure=False).result()
            assert stages == ["choosing packages", "installing 1 package"]
        assert prepared.built.startswith("Built the model's environment in ")
        again = prepare.prepare(client, context, SimpleQueue())
        assert again is not None
        assert (again.built, again.condition) == ("", prepared.condition)
        with pytest.raises(NoPython, match=r"impossible/pyproject.toml:4:19: the model needs Python >=3.30"):
            prepare.prepare(client, impossible, SimpleQueue())
