"""Studies whose bundle is elsewhere: `--bundle` and `bundle:` as archives, URLs and artifacts."""

import json
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

import registry_helpers
from archive_helpers import pack
from executor_helpers import write_bundle
from modelops_dask import bundle
from modelops_dask.settings import Settings
from modelops_dask.shape import Shape
from modelops_dask.workers.local import local_cluster
from study_helpers import SMALL, mops_helm

WIRE = "def wire(entrypoint, params, seed):\n    return {'y': b'%d' % (params['x'] * 2)}\n"


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def model(tmp_path):
    """A folder with a model, and nothing that a study would find by itself."""
    return write_bundle(tmp_path / "made" / "model", {"wire.py": WIRE})


@pytest.fixture
def references(tmp_path, model):
    """The same model by every kind of reference."""
    www = tmp_path / "www"
    www.mkdir()
    (www / "model.tar.gz").write_bytes(pack(model, "tar.gz", "model-1.0"))
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=www)) as http,
        registry_helpers.registry(tmp_path / "registry") as running,
    ):
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{http.server_port}/model.tar.gz"
        manifest = registry_helpers.push(f"{running.host}/model:v1", registry_helpers.files_of(model))
        yield {
            "archive": str(www / "model.tar.gz"),
            "URL": url,
            "tag": f"{running.host}/model:v1",
            "manifest": manifest,
        }
        http.shutdown()


def spec(folder, **more):
    folder.mkdir(exist_ok=True)
    study = {"name": "far", "entrypoint": "model.wire/any", "grid": {"x": [1, 2, 3]}, **more}
    (folder / "study.yaml").write_text(json.dumps(study))
    return folder


def test_a_study_runs_with_one_reference_and_goes_on_with_another(tmp_path, references, model):
    """They are one bundle, so the first runs all tasks, and the others find nothing left to do."""
    folder = spec(tmp_path / "study")
    for kind in ("archive", "URL", "tag", "manifest"):
        words = ("study", "run", "study.yaml", "--bundle", references[kind], *SMALL, "-o", "json")
        done = mops_helm(*words, cwd=folder)
        assert done.returncode == 0, f"{kind}: {done.stderr}"
        assert json.loads(done.stdout)["ok"] == 3, kind
        assert ("Starting workers" in done.stderr) == (kind == "archive"), kind
    assert bundle.digest(model) in (folder / "out" / "far" / "study.json").read_text()


@pytest.mark.parametrize("kind", ["URL", "tag"])
def test_workers_with_a_cache_of_their_own_fetch_what_the_driver_named(tmp_path, references, model, kind):
    """`bundle:` in the study; the driver's copy is of no use to them."""
    folder = spec(tmp_path / "study", bundle=references[kind])
    settings = Settings(executor_environment="image", bundles_cache_dir=tmp_path / "theirs")
    with local_cluster(Shape(1, 2, 1, 1024**3), settings) as client:
        address = client.scheduler.address
        done = mops_helm("study", "run", "study.yaml", "-d", address, "-o", "json", cwd=folder)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["ok"] == 3
    held = bundle.fetch(bundle.digest(model), tmp_path / "theirs")
    assert (held.path / "wire.py").read_text() == WIRE
    tried = mops_helm("study", "try", "out/far", "--task", "2/0", *SMALL, cwd=folder)
    assert tried.returncode == 0, tried.stderr


def test_what_cannot_be_fetched_stops_the_study_before_it_starts(tmp_path):
    folder = spec(tmp_path / "study")
    for reference, said in (
        ("no-such-folder", "no such folder or archive on this machine"),
        ("http://127.0.0.1:9/x.zip", "127.0.0.1:9"),
        ("oci://127.0.0.1:9/x", "add a tag or digest: 127.0.0.1:9/x:TAG"),
        ("127.0.0.1:9/x:v1", "127.0.0.1:9 does not answer"),
        ("https://me:hunter2@example.org/x.zip", "remove it"),
    ):
        done = mops_helm("study", "run", "study.yaml", "--bundle", reference, *SMALL, cwd=folder)
        assert (done.returncode, done.stdout) == (2, ""), reference
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert "hunter2" not in done.stderr
        assert not (folder / "out").exists()


def test_a_reference_in_the_study_that_means_nothing_is_a_finding(tmp_path):
    folder = spec(tmp_path / "study", bundle="oci://ghcr.io/Org/Sir")
    done = mops_helm("study", "plan", "study.yaml", cwd=folder)
    assert done.returncode == 2
    assert "study.yaml:1:" in done.stderr
    assert "REFERENCE  bundle oci://ghcr.io/Org/Sir: write oci://HOST/REPOSITORY:TAG" in done.stderr


def test_a_study_is_tried_with_any_bundle_that_its_results_count_for(tmp_path, model):
    """The first one may be gone from the cache, after a study file in the bundle has changed."""
    study = model / "sweep.yaml"
    for n_replicates in (1, 2):
        study.write_text(f"model: m.s\nscenario: b\nreplicates: {n_replicates}\nsets: [{{x: 1}}]\n")
        done = mops_helm("study", "run", str(study), "--store", str(tmp_path / "store"), *SMALL, cwd=tmp_path)
        assert done.returncode == 0, done
    for n_left in (2, 1, 0):
        trees = [path for path in (tmp_path / "cache").iterdir() if len(path.name) == 64]
        assert len(trees) == n_left
        tried = mops_helm("study", "try", str(tmp_path / "store"), *SMALL, cwd=tmp_path)
        assert (tried.returncode == 0) == (n_left > 0), tried
        if trees:
            shutil.rmtree(min(trees, key=lambda path: path.stat().st_ctime_ns))
