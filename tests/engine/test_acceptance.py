"""A store goes on with a bundle that differs only in files that the model does not read, no other."""

import json
import shutil

import pytest

from modelops_dask import bundle as bundles
from modelops_dask.plan.spec import from_content, load
from modelops_dask.store import parts
from modelops_dask.store.files import Store
from modelops_dask.store.fold import fold
from modelops_dask.store.identity import read_study
from modelops_dask.store.merge import merge
from modelops_dask.store.study import OtherStudy
from modelops_dask.store.verify import verify
from modelops_dask.study.acceptance import begin_with, compare_bundle, compare_cached
from modelops_dask.study.drive import find_refusal
from store_helpers import attempt

STUDY = {"model": "m.run", "scenario": "baseline", "parameter_sets": [{"x": 1}, {"x": 2}], "n_replicates": 2}
YAML = "model: m.run\nscenario: baseline\ngrid: {x: [1, 2]}\n"
WIRE = "def wire(entrypoint, params, seed):\n    return {'y': b'1'}\n"


@pytest.fixture
def folder(tmp_path):
    """A bundle with a study that is not called study*, which counts for its digest."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "wire.py").write_text(WIRE)
    (folder / "sweep.json").write_text(json.dumps(STUDY))
    (folder / "notes.txt").write_text("first\n")
    return folder


@pytest.fixture
def files(tmp_path):
    return Store(str(tmp_path / "store"))


def fetch(folder, tmp_path):
    return bundles.fetch(str(folder), tmp_path / "cache")


def begin(folder, tmp_path, files, notes=None):
    """The plan of a run of sweep.json with the bundle as it is now."""
    path = folder / "sweep.json"
    if not path.is_file() or "model" not in path.read_text():
        path = tmp_path / "sweep.json"
        path.write_text(json.dumps(STUDY))
    notes = [] if notes is None else notes
    return begin_with(fetch(folder, tmp_path), files, load(path), notes.append)


def write_part(files, plan, digest, *tasks):
    """Results of a bundle, as its workers would write them."""
    mark = read_study(files).mark(digest)
    parts.write(files, [attempt(plan, *task) for task in tasks], mark)


def grow(folder):
    (folder / "sweep.json").write_text(json.dumps(STUDY | {"n_replicates": 3}))


def add_study(folder):
    (folder / "m").mkdir()
    (folder / "m" / "x.yaml").write_text(YAML)


def remove_study(folder):
    (folder / "sweep.json").unlink()


def ignore(folder):
    (folder / ".modelopsignore").write_text("sweep.json\nnotes.txt\n")


def ignore_folder(folder):
    (folder / ".modelopsignore").write_text("*.txt\n")


HARMLESS = [grow, add_study, remove_study, ignore, ignore_folder]


@pytest.mark.parametrize("change", HARMLESS)
def test_a_store_goes_on_and_says_so(folder, files, tmp_path, change):
    plan = begin(folder, tmp_path, files)
    first = fetch(folder, tmp_path)
    write_part(files, plan, first.digest, (0, 0), (0, 1))
    change(folder)
    second, notes = fetch(folder, tmp_path), []
    assert second.digest != first.digest, "the digest of a bundle stays what it is"
    assert find_refusal(load(folder / "sweep.json"), second, files) is None if change is grow else True
    plan = begin(folder, tmp_path, files, notes)
    assert len(notes) == 1 and "continues: " in notes[0]
    assert read_study(files).bundles == (first.digest, second.digest)
    write_part(files, plan, second.digest, (1, 0))
    merge(files, max_files=0)
    state = fold(files, plan)
    assert state.counts()["ok"] == 3 and not state.skipped
    assert {finding.code for finding in verify(files.location()).findings} == {"UNFINISHED"}
    again: list[str] = []
    begin(folder, tmp_path, files, again)
    assert again == [], "it is accepted once"


def test_the_case_of_a_study_that_is_ignored_after_it_was_refused(folder, files, tmp_path):
    """Grown, then named in .modelopsignore, then put back: the results count all along."""
    begin(folder, tmp_path, files)
    for change in (grow, ignore, lambda folder: (folder / ".modelopsignore").unlink(), add_study):
        change(folder)
        begin(folder, tmp_path, files)
    assert len(read_study(files).bundles) == 4


def change_code(folder):
    (folder / "wire.py").write_text(WIRE + "\n")


def change_data(folder):
    (folder / "notes.txt").write_text("second\n")


def remove_data(folder):
    (folder / "notes.txt").unlink()


def add_data(folder):
    (folder / "more.csv").write_text("1\n")


def make_executable(folder):
    (folder / "wire.py").chmod(0o755)


def turn_study_into_data(folder):
    (folder / "sweep.json").write_text('{"beta": 1}')


def add_what_is_no_study(folder):
    (folder / "x.yaml").write_text(YAML + "nonsense: 1\n")


def grow_and_change_data(folder):
    grow(folder)
    change_data(folder)


@pytest.mark.parametrize(
    "change",
    [
        change_code,
        change_data,
        remove_data,
        add_data,
        make_executable,
        turn_study_into_data,
        add_what_is_no_study,
        grow_and_change_data,
    ],
)
def test_a_bundle_that_may_return_other_results_is_refused(folder, files, tmp_path, change):
    begin(folder, tmp_path, files)
    change(folder)
    with pytest.raises(OtherStudy, match="Since then") as caught:
        begin(folder, tmp_path, files)
    is_code = change in (change_code, make_executable)
    assert ("modelopsignore" in str(caught.value)) is not is_code, "the wire function is no file to leave out"
    assert read_study(files).accepted == ()
    assert find_refusal(load(_study(tmp_path)), fetch(folder, tmp_path), files) is not None


def _study(tmp_path):
    path = tmp_path / "any.json"
    path.write_text(json.dumps(STUDY))
    return path


READERS = {
    "by its name": "open('sweep.json')",
    "by a pattern": "Path().glob('*.json')",
    "by its ending": "[p for p in files if p.suffix == '.json']",
    "by a name that is put together": "open(f'{name}.json')",
    "by an old format": "open('%s.json' % name)",
    "from a list of the folder": "os.listdir('.')",
    "by walking": "for p in Path('.').iterdir(): pass",
    "by any pattern": "glob('*')",
    "by half a pattern": "glob.glob('*.j*')",
    "by rglob": "HERE.rglob('sw*')",
    "by rglob of anything": "HERE.rglob('*')",
    "by iglob": "glob.iglob('sw*')",
    "by a pattern in a folder": "glob.glob(os.path.join(HERE, 'sw*'))",
    "by a pattern by name": "HERE.glob(pattern='*')",
    "by a pattern on the next line": "HERE.glob(\n  '*'\n)",
    "by a pattern that is put together": "HERE.glob(rf'{x}*')",
    "by a pattern elsewhere": "glob.glob(PATTERN)",
    "by a path of anything": "glob.glob(str(HERE / '*'))",
    "by another name of glob": "from glob import glob as g\ng('*')",
    "by Path.walk": "HERE.walk()",
    "by os.fwalk": "os.fwalk('.')",
    "by an imported walk": "from os import walk\nwalk('.')",
    "by a command": "os.popen('ls').read()",
    "by resources": "importlib.resources.contents('pkg')",
    "by an ending in a variable": "open(f'sweep.{ending}')",
    "by pieces": "open('sweep' + '.' + 'json')",
    "by its stem": "load(config_name='sweep')",
    "by an end of its name": "open(prefix + 'eep.json')",
    "by an end after a format": "open('%sp.json' % name)",
    "by an ending without its dot": "name.endswith('json')",
    "by an ending in capitals": "open('SWEEP.JSON'.lower())",
    "by another ending": "open(Path(__file__).with_suffix('.json'))",
}


@pytest.mark.parametrize(
    "name, code",
    [
        *(pytest.param("helper.py", code, id=reader) for reader, code in READERS.items()),
        *(pytest.param(name, READERS["by its name"], id=name) for name in ("model.R", "list.txt", "program")),
        pytest.param("run.sh", "for f in ./*; do cat $f; done", id="a loop of a shell"),
        pytest.param("run", "#!/bin/sh\ncat sw*", id="a pattern of a shell"),
        pytest.param("list.R", "for (f in dir('.')) source(f)", id="dir of R"),
        pytest.param("list.jl", "readdir(x)", id="readdir of Julia"),
        pytest.param("list.js", "fs.readdirSync(x)", id="readdir of JavaScript"),
    ],
)
def test_a_study_that_another_file_may_read_counts(folder, files, tmp_path, code, name):
    (folder / name).write_text(code)
    begin(folder, tmp_path, files)
    grow(folder)
    with pytest.raises(OtherStudy, match=f"a study, but {name} may read it"):
        begin(folder, tmp_path, files)
    ignore(folder)
    notes: list[str] = []
    begin(folder, tmp_path, files, notes)
    assert len(notes) == 1, "what the person says settles it"


def test_a_study_that_a_link_or_a_parameter_names_counts(folder, files, tmp_path):
    (folder / "data.json").symlink_to("sweep.json")
    begin(folder, tmp_path, files)
    grow(folder)
    with pytest.raises(OtherStudy, match=r"a study, but data\.json may read it"):
        begin(folder, tmp_path, files)
    (folder / "data.json").unlink()
    (folder / "other.yaml").write_text(YAML + "fixed: {config: sweep.json}\n")
    with pytest.raises(OtherStudy, match=r"a study, but other\.yaml may read it"):
        begin(folder, tmp_path, files)


@pytest.mark.parametrize(
    "name, text",
    [
        ("README.md", "mops-helm study run sweep.json"),
        ("model.py", "import json\njson.dumps({})\nopen('data.json5')\nglob('*.csv')"),
        ("data.csv", "a,b\n1,2\n"),
        ("model.py", "from glob import glob\nglob('*.csv')\nopen('other-sweep.json')\na = b * c ** 2"),
        ("model.py", "import ast\nast.walk(tree)\n"),
        ("pyproject.toml", '[project]\nname = "sweep"\n'),
        ("README.txt", "mops-helm study run sweep.json"),
        (".github/workflows/test.yml", "run: mops-helm study run *.json"),
        (".gitignore", "*.json"),
        ("data.npz", "\0 *.* .json listdir"),
    ],
)
def test_what_only_mentions_studies_reads_none(folder, files, tmp_path, name, text):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    begin(folder, tmp_path, files)
    grow(folder)
    begin(folder, tmp_path, files)


@pytest.mark.parametrize(
    "fields",
    [
        {"grid": {"config": ["base.json"]}},
        {"fixed": {"config": "base"}},
        {"fixed": {"config": "data/base.json"}},
    ],
    ids=["a value", "a stem", "a path"],
)
@pytest.mark.parametrize("is_named_now", [True, False])
def test_a_study_that_the_run_itself_names_counts(folder, files, tmp_path, fields, is_named_now):
    """The study that runs is often no part of the bundle; what it named before counts too."""
    plain = {"model": "m.run", "replicates": 1, "grid": {"x": [1]}}
    naming = {"model": "m.run", "replicates": 1, "grid": {"x": [1]}, **fields}
    (folder / "base.json").write_text(json.dumps(STUDY))
    first, last = (plain, naming) if is_named_now else (naming, plain)
    begin_with(fetch(folder, tmp_path), files, from_content(first, tmp_path), lambda _: None)
    (folder / "base.json").write_text(json.dumps(STUDY | {"n_replicates": 5}))
    with pytest.raises(OtherStudy, match=r"base\.json \(a study, but the study itself may read it\)"):
        begin_with(fetch(folder, tmp_path), files, from_content(last, tmp_path), lambda _: None)


@pytest.mark.parametrize(
    "name", ["uv.lock", "pyproject.toml", "wire.py", "sub/requirements.txt", ".modelops/modelops.toml"]
)
def test_what_the_engine_reads_is_not_ignored_away(folder, files, tmp_path, name):
    """Another function would be called, or other packages installed, beside the results that are there."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).touch()
    begin(folder, tmp_path, files)
    (folder / ".modelopsignore").write_text(f"{name}\n")
    with pytest.raises(OtherStudy, match="the engine read it") as caught:
        begin(folder, tmp_path, files)
    assert "can be named" not in str(caught.value), "that advice would not help"


def test_an_archive_is_judged_by_the_rules_that_it_has_now(folder, files, tmp_path):
    def fetch_archive():
        archive = shutil.make_archive(str(tmp_path / "bundle"), "gztar", folder)
        return bundles.fetch(archive, tmp_path / "cache")

    spec = load(folder / "sweep.json")
    begin_with(fetch_archive(), files, spec, lambda _: None)
    (folder / "notes.txt").unlink()
    with pytest.raises(OtherStudy, match=r"removed notes\.txt"):
        begin_with(fetch_archive(), files, spec, lambda _: None)
    (folder / ".modelopsignore").write_text("notes.txt\n")
    begin_with(fetch_archive(), files, spec, lambda _: None)
    assert len(read_study(files).accepted) == 1


def test_a_large_file_is_neither_a_study_nor_searched_for_patterns(folder, files, tmp_path):
    (folder / "large.yaml").write_text("model: m.run\nfixed: {text: '" + "*.json " * 200_000 + "'}\n")
    begin(folder, tmp_path, files)
    grow(folder)
    begin(folder, tmp_path, files)
    (folder / "large.yaml").write_text("model: m.run\nfixed: {text: '" + "*.yaml " * 200_000 + "'}\n")
    with pytest.raises(OtherStudy):
        begin(folder, tmp_path, files)


def test_another_entrypoint_is_refused_and_its_bundle_not_accepted(folder, files, tmp_path):
    begin(folder, tmp_path, files)
    (folder / "sweep.json").write_text(json.dumps(STUDY | {"scenario": "other"}))
    with pytest.raises(OtherStudy):
        begin(folder, tmp_path, files)
    assert read_study(files).accepted == ()


def test_a_part_of_a_bundle_that_was_not_accepted_stays_foreign(folder, files, tmp_path):
    plan = begin(folder, tmp_path, files)
    grow(folder)
    plan = begin(folder, tmp_path, files)
    write_part(files, plan, "sha256:" + "0" * 64, (0, 0))
    state = fold(files, plan)
    assert state.counts()["ok"] == 0 and "has not accepted" in next(iter(state.skipped.values()))


@pytest.mark.parametrize("has_cache", [True, False])
def test_a_store_of_before_is_compared_by_the_bundle_in_the_cache(folder, files, tmp_path, has_cache):
    """Stores that keep no list of files; without the bundle nothing is known, and it is refused as before."""
    begin(folder, tmp_path, files)
    shutil.rmtree(files.folder / "bundles")
    if not has_cache:
        shutil.rmtree(tmp_path / "cache")
    grow(folder)
    if has_cache:
        begin(folder, tmp_path, files)
    else:
        assert compare_bundle(files, fetch(folder, tmp_path), load(folder / "sweep.json")) == []
        with pytest.raises(OtherStudy, match="cannot be compared"):
            begin(folder, tmp_path, files)


def test_another_machine_compares_by_the_list_in_the_store(folder, files, tmp_path):
    begin(folder, tmp_path, files)
    shutil.rmtree(tmp_path / "cache")
    grow(folder)
    begin(folder, tmp_path, files)
    assert len(read_study(files).bundles) == 2


def test_a_damaged_list_accepts_nothing(folder, files, tmp_path):
    begin(folder, tmp_path, files)
    (name,) = files.list("bundles")
    (files.folder / "bundles" / name).write_text('{"files": {}, "studies": 3}')
    grow(folder)
    with pytest.raises(OtherStudy):
        begin(folder, tmp_path, files)


def test_bundles_of_one_cache_are_compared_without_a_store(folder, tmp_path):
    first = fetch(folder, tmp_path)
    add_study(folder)
    second = fetch(folder, tmp_path)
    assert list(map(str, compare_cached(second, first.digest, load(folder / "sweep.json")))) == [
        "added m/x.yaml (a study)"
    ]
    assert compare_cached(second, "sha256:" + "0" * 64, load(folder / "sweep.json")) == []
