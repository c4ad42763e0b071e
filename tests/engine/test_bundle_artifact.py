"""Bundles in a real registry: how they are pushed, what is checked, who may read them."""

import base64
import hashlib
import json
import logging
from contextlib import ExitStack

import pytest

import race_helpers
import registry_helpers
from archive_helpers import FORMS, member, pack, tar
from executor_helpers import write_bundle
from modelops_dask import bundle
from modelops_dask.bundle import FetchFailed
from registry_helpers import PASSWORD, USER, files_of, push
from token_helpers import tokens

FILES = {"wire.py": "def wire(e, p, s): ...\n", "model/a.py": "A = 1\n", "data/empty.csv": ""}
INDEX = "application/vnd.modelops.bundle.index.v1+json"


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with registry_helpers.registry(tmp_path_factory.mktemp("registry") / "open") as running:
        yield running


@pytest.fixture
def source(tmp_path):
    return write_bundle(tmp_path / "source", FILES)


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def name(registry, request):
    """A repository of the test's own."""
    return f"{registry.host}/models/{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}"


def test_a_layer_per_file(name, source, cache):
    manifest = push(f"{name}:v1", files_of(source))
    by_tag = bundle.fetch(f"{name}:v1", cache)
    assert by_tag.digest == bundle.digest(source) == bundle.digest(by_tag.path)
    assert by_tag.source == f"oci://{name}@{manifest}", "others get what the tag meant here"
    for reference in (f"{name}@{manifest}", f"oci://{name}:v1@{manifest}", by_tag.source):
        assert bundle.fetch(reference, cache) == by_tag
    elsewhere = bundle.fetch(f"{name}:v1", cache.with_name("other"), expected=by_tag.digest)
    assert (elsewhere.digest, elsewhere.source) == (by_tag.digest, by_tag.source)


def test_as_modelops_pushes_it(name, source, cache, tmp_path):
    """The bundle's index as the manifest's config; a layer per file."""
    files = files_of(source)
    (tmp_path / "index.json").write_text(
        json.dumps({"version": "1.0", "files": {path: {} for path in files}})
    )
    push(f"{name}:v1", files, manifest_config=f"{tmp_path / 'index.json'}:{INDEX}")
    assert bundle.fetch(f"{name}:v1", cache).digest == bundle.digest(source)
    files.pop("data/empty.csv")
    push(f"{name}:v2", files, manifest_config=f"{tmp_path / 'index.json'}:{INDEX}")
    with pytest.raises(FetchFailed, match=r"not all files are in the registry \(data/empty.csv\)"):
        bundle.fetch(f"{name}:v2", cache)


@pytest.mark.parametrize("form", FORMS)
def test_one_archive(name, source, cache, tmp_path, form):
    (source / "run.sh").write_text("#!")
    (source / "run.sh").chmod(0o755)
    (tmp_path / f"sir.{form}").write_bytes(pack(source, form))
    push(f"{name}:v1", {f"sir.{form}": tmp_path / f"sir.{form}"})
    assert bundle.fetch(f"{name}:v1", cache).digest == bundle.digest(source)


def test_a_folder_that_oras_packed(name, source, cache, monkeypatch):
    monkeypatch.chdir(source.parent)
    registry_helpers.client().push(target=f"{name}:v1", files=["source"])
    assert bundle.fetch(f"{name}:v1", cache).digest == bundle.digest(source)


def test_an_archive_among_the_files_stays_one(name, source, cache):
    (source / "data" / "population.tar.gz").write_bytes(pack(source, "tar.gz"))
    push(f"{name}:v1", files_of(source))
    assert (bundle.fetch(f"{name}:v1", cache).path / "data" / "population.tar.gz").is_file()


def test_a_tag_is_asked_anew_and_its_files_only_once(registry, name, source, cache):
    push(f"{name}:v1", files_of(source))
    old = bundle.fetch(f"{name}:v1", cache)
    before = registry.blobs_read()
    assert bundle.fetch(f"{name}:v1", cache) == old
    assert registry.blobs_read() == before
    (source / "model" / "a.py").write_text("A = 2\n")
    push(f"{name}:v1", files_of(source))
    assert bundle.fetch(f"{name}:v1", cache).digest == bundle.digest(source) != old.digest
    assert bundle.fetch(old.source, cache) == old


def test_of_fifty_processes_one_reads_each_file(registry, name, source, cache):
    manifest = push(f"{name}:v1", files_of(source))
    before = registry.blobs_read()
    found = race_helpers.at_once(50, bundle.fetch, f"{name}@{manifest}", cache)
    assert {one.digest for one in found} == {bundle.digest(source)}
    assert registry.blobs_read() - before == len(FILES)


def test_what_was_fetched_needs_no_registry(tmp_path, source, cache):
    with registry_helpers.registry(tmp_path / "registry") as running:
        manifest = push(f"{running.host}/sir:v1", files_of(source))
        found = bundle.fetch(f"{running.host}/sir@{manifest}", cache)
    assert bundle.fetch(f"{running.host}/sir@{manifest}", cache) == found
    assert bundle.fetch(manifest, cache) == found, "ModelOps writes references without a registry"
    assert bundle.fetch(f"sir@{manifest}", cache) == found
    with pytest.raises(FetchFailed, match=f"{running.host} does not answer"):
        bundle.fetch(f"{running.host}/sir:v1", cache)


def test_a_changed_copy_is_fetched_again(name, source, cache, caplog):
    manifest = push(f"{name}:v1", files_of(source))
    found = bundle.fetch(f"{name}@{manifest}", cache)
    (found.path / "wire.py").unlink()
    assert bundle.fetch(f"{name}@{manifest}", cache) == found
    assert (found.path / "wire.py").read_text() == FILES["wire.py"]
    assert "its cached copy was changed" in caplog.text


@pytest.mark.parametrize("title", ["../evil", "/etc/evil", "model/../../evil", "WIRE.py"])
def test_titles_of_strangers_are_not_followed(name, source, cache, tmp_path, title):
    evil = write_bundle(tmp_path, {"evil": "x"}) / "evil"
    push(f"{name}:v1", {**files_of(source), title: evil})
    with pytest.raises(FetchFailed, match=r"outside the bundle|the same name on some file systems"):
        bundle.fetch(f"{name}:v1", cache)
    assert {path.name for path in cache.iterdir() if path.is_dir()} == {"new"}
    assert list((cache / "new").iterdir()) == []


def test_a_hostile_archive_in_a_registry_is_refused(name, cache, tmp_path):
    (tmp_path / "evil.tar").write_bytes(tar([member("../evil", b"x")]))
    push(f"{name}:v1", {"evil.tar": tmp_path / "evil.tar"})
    with pytest.raises(FetchFailed, match="outside the bundle"):
        bundle.fetch(f"{name}:v1", cache)


def test_files_that_changed_in_the_registry_are_refused(registry, name, source, cache):
    manifest = push(f"{name}:v1", {"wire.py": source / "wire.py"})
    digest = hashlib.sha256((source / "wire.py").read_bytes()).hexdigest()
    kept = registry.storage / "docker/registry/v2/blobs/sha256" / digest[:2] / digest / "data"
    before = kept.read_bytes()
    kept.write_bytes(before.replace(b"def", b"fed"))
    try:
        with pytest.raises(FetchFailed, match=f"other bytes than layer sha256:{digest}"):
            bundle.fetch(f"{name}@{manifest}", cache)
    finally:
        kept.write_bytes(before)


def test_a_manifest_that_changed_in_the_registry_is_refused(registry, name, source, cache):
    manifest = push(f"{name}:v1", {"wire.py": source / "wire.py"}).removeprefix("sha256:")
    kept = registry.storage / "docker/registry/v2/blobs/sha256" / manifest[:2] / manifest / "data"
    kept.write_bytes(kept.read_bytes().replace(b'"wire.py"', b'"evil.py"'))
    with pytest.raises(FetchFailed, match=r"another digest|status"):
        bundle.fetch(f"{name}@sha256:{manifest}", cache)


def test_what_is_not_there_is_told(name, cache):
    with pytest.raises(FetchFailed, match="has no such artifact") as failed:
        bundle.fetch(f"{name}:v1", cache)
    assert f"bundle {name}:v1: " in str(failed.value)


@pytest.fixture
def docker_config(tmp_path, monkeypatch):
    """What `docker login HOST` writes, as a function of the host and USER:PASSWORD."""
    folder = tmp_path / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))

    def login(host: str, who: str) -> str:
        secret = base64.b64encode(who.encode()).decode()
        (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": secret}}}))
        return secret

    return login


@pytest.mark.parametrize("kind", ["basic", "token"])
def test_credentials_are_those_of_docker_login(tmp_path, source, cache, docker_config, caplog, capfd, kind):
    """A registry that knows passwords, and one that sends people to a token service, as public ones do."""
    with ExitStack() as stack:
        auth = None
        if kind == "token":
            auth = stack.enter_context(tokens(tmp_path, USER, PASSWORD))
        running = stack.enter_context(
            registry_helpers.registry(tmp_path / "registry", password=kind == "basic", auth=auth)
        )
        stack.enter_context(caplog.at_level(logging.DEBUG))
        name, said = f"{running.host}/sir:v1", []
        push(name, files_of(source), kind=kind)
        wrong = None
        for login in (None, f"{USER}:wrong-{PASSWORD}"):
            if login:
                wrong = docker_config(running.host, login)
            with pytest.raises(FetchFailed, match=rf"401\); run `docker login {running.host}`") as refused:
                bundle.fetch(name, cache)
            said.append(str(refused.value))
        right = docker_config(running.host, f"{USER}:{PASSWORD}")
        assert bundle.fetch(name, cache).digest == bundle.digest(source)
    for text in (*said, caplog.text, *capfd.readouterr()):
        for secret in (PASSWORD, right, wrong):
            assert secret not in text


def test_a_config_of_docker_that_cannot_be_read(name, cache, docker_config, tmp_path):
    docker_config("nobody", "a:b")
    (tmp_path / "docker" / "config.json").write_text("{")
    with pytest.raises(FetchFailed, match=r"config\.json of `docker login` cannot be read"):
        bundle.fetch(f"{name}:v1", cache)
