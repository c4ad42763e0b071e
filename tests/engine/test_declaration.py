"""What decides the packages decides the key of the environment."""

import json
import random

import pytest

from executor_helpers import settings, task, write_bundle
from modelops_dask import bundle, executors
from modelops_dask.bundle import Bundle, tree
from modelops_dask.environments import declaration
from modelops_dask.errors import BadInput
from package_helpers import write_wheel

WIRE = "import tiny\ndef wire(e, p, s):\n    return {'version': tiny.VERSION.encode()}\n"
PROJECT = '[project]\nname = "model"\nversion = "1"\n'
DYNAMIC = (
    f'{PROJECT}dynamic = ["dependencies"]\n'
    '[tool.setuptools.dynamic]\ndependencies = {file = ["in/d.txt"]}\n'
)


def digest(folder):
    return declaration.read(Bundle(folder, tree.digest(folder))).digest


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    """A folder with tiny 1.0, 2.0 and 3.0; uv asks no index."""
    folder = tmp_path / "wheels"
    for version in ("1.0", "2.0", "3.0"):
        write_wheel(folder, "tiny", version)
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    return folder


def version(source, chosen):
    """The version of tiny that a bundle's model has."""
    with executors.create(chosen) as executor:
        outcome = executor.run(task(source, chosen))
    assert outcome.status == "ok", outcome.error
    return outcome.outputs["version"].decode()


@pytest.mark.usefixtures("wheels")
def test_a_bundle_never_runs_with_the_packages_of_another(tmp_path):
    chosen = settings(tmp_path)
    files = {"pyproject.toml": "[tool.ruff]\nline-length = 100\n", "wire.py": WIRE}
    first = write_bundle(tmp_path / "a", {**files, "requirements.txt": "tiny==1.0\n"})
    second = write_bundle(tmp_path / "b", {**files, "requirements.txt": "tiny==2.0\n"})
    assert [version(first, chosen), version(second, chosen)] == ["1.0", "2.0"]
    (first / "requirements.txt").write_text("tiny==3.0\n")
    assert version(first, chosen) == "3.0"


@pytest.mark.usefixtures("wheels")
def test_what_a_requirements_file_includes_is_followed(tmp_path):
    chosen = settings(tmp_path)
    source = write_bundle(
        tmp_path / "source",
        {"requirements.txt": "-r base.txt\n", "base.txt": "tiny\n-c in/limits.txt\n", "wire.py": WIRE},
    )
    write_bundle(source, {"in/limits.txt": "tiny<2\n-r ../base.txt\n"})
    assert version(source, chosen) == "1.0"
    (source / "in/limits.txt").write_text("tiny<3\n")
    assert version(source, chosen) == "2.0"
    (source / "base.txt").write_text("tiny\n")
    assert version(source, chosen) == "3.0"


def test_options_of_requirements_files_hold_when_packages_are_installed(tmp_path):
    chosen = settings(tmp_path)
    source = write_bundle(tmp_path / "source", {"wire.py": WIRE, "requirements.txt": "-r in/base.txt\n"})
    write_bundle(source, {"in/base.txt": "--no-index\n--find-links wheels\ntiny\n"})
    write_wheel(source / "in/wheels", "tiny", "1.0")
    assert version(source, chosen) == "1.0"
    write_wheel(source / "in/wheels", "tiny", "2.0")
    assert version(source, chosen) == "2.0"
    write_wheel(source / "in/wheels", "tiny", "2.0", content=b"VERSION = 'another 2.0'\n")
    assert version(source, chosen) == "another 2.0"


def test_a_path_in_a_file_of_another_folder_is_one_of_the_bundle(tmp_path):
    """As uv has it; a folder of packages lies beside the file that names it."""
    files = {"requirements.txt": "-r in/base.txt\n", "in/base.txt": "./x-1-py3-none-any.whl\n-f links\n"}
    folder = write_bundle(tmp_path, {**files, "in/links/a.whl": "", "links/a.whl": ""})
    write_bundle(folder, {"x-1-py3-none-any.whl": "", "in/x-1-py3-none-any.whl": ""})
    before = digest(folder)
    for name, decides in {
        "in/x-1-py3-none-any.whl": False,
        "links/a.whl": False,
        "x-1-py3-none-any.whl": True,
        "in/links/a.whl": True,
    }.items():
        (folder / name).write_text("other")
        assert (digest(folder) != before) == decides, name
        before = digest(folder)


NEUTRAL = ["wire.py", "model/run.py", "data.csv", "README.md"]


def random_bundle(rng):
    """Files of a bundle, and the names of those that decide its packages."""
    files = dict.fromkeys(NEUTRAL, "# nothing\n")
    deciding: set[str] = set()

    def add(name, text):
        files[name] = text
        deciding.add(name)
        return name

    def requirements(depth=0):
        """The text of a requirements file; what it names is added."""
        lines = [f"{rng.choice(['numpy', 'six', 'attrs'])}=={rng.randrange(9)}.0  # a comment"]
        for _ in range(rng.randrange(4)):
            number = len(files)
            folder = "../" * (depth > 0)  # files that are included lie in in/
            kind = rng.choice(["include", "again", "wheel", "links", "index", "vcs", "tree", "bare"])
            if kind == "include" and depth < 3:
                name = add(f"in/{number}.txt", "")
                flag = rng.choice(["-r ", "--requirement ", "--requirement=", "-c ", "--constraint ", "-r"])
                lines.append(flag + (name if depth == 0 else f"{number}.txt"))
                files[name] = requirements(depth + 1)
            elif kind == "again":  # a cycle, or itself
                lines.append(f"-r {folder}requirements.txt")
            elif kind == "wheel":
                name = add(f"in/local-{number}-py3-none-any.whl", "a wheel")
                lines.append(
                    rng.choice(["./{}", "local @ file:./{}", "local @ file:${{PROJECT_ROOT}}/{}"]).format(
                        name
                    )
                )
            elif kind == "links":
                name = add(f"links{number}/other-1.0-py3-none-any.whl", "a wheel")
                flag = rng.choice(["--find-links ", "-f ", "--find-links="])
                lines.append(f"{flag}{folder}{name.partition('/')[0]}")
            elif kind == "index":
                lines.append(f"--extra-index-url https://packages.example/{number}")
            elif kind == "vcs":
                lines.append(f"x @ git+https://git.example/x@v{number}")
            elif kind == "tree":  # its build backend may read what it likes
                lines.append(f"{rng.choice(['', '-e '])}./tree{number}")
                files[f"tree{number}/pyproject.toml"] = "[build-system]\n"
                files[f"tree{number}/src/code.py"] = "x = 1\n"
                deciding.update(files)
            else:
                lines.append("polars >= 1 \\\n    ; python_version > '3'")
        rng.shuffle(lines)
        return "\n".join(lines) + "\n"

    form = rng.choice(["requirements", "requirements", "project", "dynamic", "lock"])
    uv = rng.choice(
        ["", "\n[tool.uv]\nconstraint-dependencies = ['six<2']\n", "\n[tool.uv]\nfind-links = ['./flat']\n"]
    )
    if "flat" in uv:
        add("flat/six-1.0-py3-none-any.whl", "a wheel")
    if form == "requirements":
        add("requirements.txt", "")
        files["requirements.txt"] = requirements()
        if uv:
            add("pyproject.toml", uv)
    elif form == "dynamic":
        add("pyproject.toml", DYNAMIC + uv)
        add("in/d.txt", "six\n")
        deciding.update(files)
    else:
        names = ["six", "x @ git+https://git.example/x@v1", "y @ file:${PROJECT_ROOT}/y-1.whl"]
        add("y-1.whl", "a wheel")
        add("pyproject.toml", f"{PROJECT}dependencies = {json.dumps(names)}\n{uv}")
    if form == "lock":
        add("uv.lock", 'version = 1\nsource = { virtual = "." }\n')
    if rng.random() < 0.3:
        add("uv.toml", "resolution = 'lowest'\n")
    if "tree" in "".join(files):
        deciding.update(files)
    return files, deciding


@pytest.mark.parametrize("seed", range(100))
def test_any_change_of_a_file_that_decides_is_another_key(tmp_path, seed):
    print("seed", seed)
    files, deciding = random_bundle(random.Random(seed))
    folder = write_bundle(tmp_path / "source", files)
    known = {digest(folder): "no change"}
    assert list(known) == [digest(write_bundle(tmp_path / "elsewhere", files))]
    for name, text in files.items():
        more = {"pyproject.toml": "\n[tool.uv.sources]\nz = {index = 'z'}\n", "uv.lock": "\n# z\n"}.get(name)
        more = more or {"uv.toml": "\nprerelease = 'allow'\n"}.get(
            name, "\nzzz\n" if name.endswith(".txt") else "z"
        )
        (folder / name).write_text(text + more)
        changed = digest(folder)
        if name in deciding:
            assert changed not in known, f"{name} changed, and the key is that of {known[changed]}"
            known[changed] = name
        else:
            assert known.get(changed) == "no change", f"{name} does not decide, and the key changed"
        (folder / name).write_text(text)


@pytest.mark.parametrize(
    "name", ["UV_DEFAULT_INDEX", "UV_INDEX", "UV_CONSTRAINT", "UV_EXCLUDE_NEWER", "UV_NO_BINARY"]
)
def test_variables_of_uv_that_choose_packages_count(tmp_path, monkeypatch, name):
    folder = write_bundle(tmp_path, {"requirements.txt": "six\n", "limits.txt": "six<2\n"})
    before = digest(folder)
    monkeypatch.setenv(name, "limits.txt")
    during = digest(folder)
    (folder / "limits.txt").write_text("six<1\n")
    assert len({before, during, digest(folder)}) == 3


def test_variables_that_do_not_choose_packages_and_passwords_do_not_count(tmp_path, monkeypatch):
    folder = write_bundle(
        tmp_path, {"requirements.txt": "six\n--extra-index-url https://u:${TOKEN}@x.example/\n"}
    )
    monkeypatch.setenv("UV_INDEX", "https://user:one@packages.example/")
    monkeypatch.setenv("TOKEN", "one")
    before = digest(folder)
    monkeypatch.setenv("UV_INDEX", "https://user:two@packages.example/")
    monkeypatch.setenv("TOKEN", "two")
    monkeypatch.setenv("UV_CACHE_DIR", "/elsewhere")
    monkeypatch.setenv("UV_HTTP_TIMEOUT", "1")
    assert digest(folder) == before


def test_a_folder_of_packages_outside_the_bundle_counts(tmp_path):
    outside = write_wheel(tmp_path / "outside", "tiny", "1.0")
    folder = write_bundle(tmp_path / "source", {"requirements.txt": f"--find-links {outside.parent}\ntiny\n"})
    before = digest(folder)
    write_wheel(outside.parent, "tiny", "2.0")
    assert digest(folder) != before


@pytest.mark.parametrize("reader", ["declaration", "wire"])
def test_a_pyproject_with_a_byte_order_mark_is_read(tmp_path, reader):
    chosen = settings(tmp_path)
    source = tmp_path / "source"
    source.mkdir()
    points = '[project.entry-points."modelops.wire"]\nm = "model:run"\n' if reader == "wire" else ""
    (source / "pyproject.toml").write_text(PROJECT + points, "utf-8-sig")
    code = "def {}(e, p, s):\n    return {{'x': b'1'}}\n"
    write_bundle(source, {"model.py": code.format("run")} if points else {"wire.py": code.format("wire")})
    assert bundle.find(source) == source
    with executors.create(chosen) as executor:
        assert executor.run(task(source, chosen)).outputs == {"x": b"1"}


def test_an_error_names_pyproject_as_the_bundle_has_it(tmp_path):
    folder = write_bundle(tmp_path, {"pyproject.toml": "[project\n"})
    with pytest.raises(BadInput) as failed:
        digest(folder)
    assert str(failed.value).startswith("pyproject.toml of the bundle: ")
    assert str(tmp_path) not in str(failed.value)
    assert "line 1, column 9" in str(failed.value)
