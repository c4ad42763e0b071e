"""Which files count for a bundle's digest: rule 2 is .gitignore's; a study keeps the rule it began with."""

import json
import random
import subprocess

import pytest

from modelops_dask import bundle as bundles
from modelops_dask.bundle import ignore, tree
from modelops_dask.bundle.ignore import DIGEST_RULES, IGNORE_FILE
from modelops_dask.bundle.pack import pack
from modelops_dask.errors import BadInput
from modelops_dask.plan.spec import load
from modelops_dask.pod.driver import store_bundle
from modelops_dask.settings import Settings
from modelops_dask.store.files import Store
from modelops_dask.store.identity import Damaged, read_study
from modelops_dask.store.study import OtherStudy
from modelops_dask.study.acceptance import apply_digest_rule, begin_with
from modelops_dask.study.drive import find_refusal

STUDY = {"model": "m.run", "scenario": "s", "parameter_sets": [{"x": 1}], "n_replicates": 2}
# Names of files and folders, among them all kinds that the built-in patterns are about, and near misses.
NAMES = [
    *(
        "wire.py",
        "a.pyc",
        "x.csv",
        "out",
        "venv",
        ".git",
        "__pycache__",
        "my.egg-info",
        "report.html",
        "keep.csv",
    ),
    *("study.yaml", "study-2.json", "studies", "studious.yml", "studyless", "mystudy.yaml", "study.yaml.txt"),
    *(
        ".modelops-bundle",
        "state.json",
        "data",
        "log.txt",
        "é ü.txt",
        "[x].csv",
        "back\\slash",
        "new\nline.pyc",
    ),
]
PATTERNS = [
    *(
        "data",
        "data/",
        "/data",
        "*.csv",
        "data/*",
        "data/*.csv",
        "/*.txt",
        "**/log.txt",
        "data/**",
        "a/**/x.csv",
    ),
    *(
        "studies/*/x.csv",
        "*.[ct]sv",
        "[!w]*.csv",
        "\\[x\\].csv",
        "é*",
        "# a comment",
        "",
        "log.txt  ",
        "?.csv",
    ),
    *("out/**/*.csv", "*/x.csv", "**/data/**", "s*", "!keep.csv", "!x.csv", "!*.txt", "!log.txt", "\\!odd"),
]
FILES = ["keep.csv", "x.csv", "log.txt", "é ü.txt"]  # what a pattern with ! takes back


def grow(folder, chance, folders=NAMES):
    """Write a tree of random names, four levels deep at most."""
    for _ in range(25):
        names = [*chance.choices(folders, k=chance.randint(0, 3)), chance.choice(NAMES)]
        path = folder.joinpath(*names)
        if not any(parent.is_file() for parent in path.parents) and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(chance.random()))
    return folder


def names_by_rule(folder):
    return {rule: set(map(str, tree.list_files(folder, rule))) - {IGNORE_FILE} for rule in DIGEST_RULES}


def seeds(count):
    """Fixed seeds and a new one, whose test has a fixed name: the processes of `pytest -n` compare names."""
    return [*range(count), pytest.param(random.SystemRandom().randrange(1000, 10**9), id="random")]


@pytest.mark.parametrize("seed", seeds(12))
def test_without_patterns_of_its_own_a_bundle_has_one_digest(tmp_path, seed):
    folder = grow(tmp_path / "tree", random.Random(seed))
    digests = {tree.digest(folder, rule) for rule in DIGEST_RULES}
    for text in ("", "\n# only a comment\n\n"):
        (folder / IGNORE_FILE).write_text(text)
        digests |= {tree.digest(folder, rule) for rule in DIGEST_RULES}
    assert len(digests) == 1, names_by_rule(folder)


def test_the_trees_of_these_tests_meet_the_built_in_patterns(tmp_path):
    """Otherwise the property above could hold because nothing was left out."""
    left_out = ""
    for seed in range(20):
        folder = grow(tmp_path / str(seed), random.Random(seed))
        files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        left_out += "".join(f"\n/{name}" for name in sorted(files - names_by_rule(folder)[2]))
    for start in (
        "\n/study.yaml",
        "\n/out/",
        "\n/studies/",
        "\n/studyless/",
        "/.git",
        "/__pycache__/",
        ".egg-info/",
    ):
        assert start in left_out


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "--quiet", "--bare", folder], check=True, capture_output=True)
    return folder


@pytest.mark.parametrize("seed", seeds(12))
def test_rule_2_is_that_of_git(tmp_path, repository, seed):
    """The built-in patterns and those of the file, as git reads them.

    But for folders of two kinds: .git, whose content git never lists, and folders that a pattern with ! takes
    back, which with pathspec takes back the folders in them, too.
    """
    chance = random.Random(seed)
    folder = grow(
        tmp_path / "tree", chance, [name for name in NAMES if name not in (".git", "study.yaml.txt", *FILES)]
    )
    patterns = "\n".join(chance.sample(PATTERNS, 6)) + "\n"
    (folder / IGNORE_FILE).write_text(patterns)
    excluded = tmp_path / "excluded"
    excluded.write_text("\n".join([*ignore.IGNORED, *ignore._IGNORED_BELOW, patterns]))
    command = ["git", f"--git-dir={repository}", f"--work-tree={folder}", "-c", "core.bare=false"]
    command += ["ls-files", "-z", "--others", f"--exclude-from={excluded}"]
    listed = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
    assert set(map(str, tree.list_files(folder))) == set(filter(None, listed.split("\0"))), patterns


@pytest.mark.parametrize(
    "patterns, left_out",
    [
        ("*.csv\n!keep.csv\n", {"data/a.csv", "data/2020/b.csv"}),
        ("data/**\n!data/keep.csv\n", {"data/a.csv", "data/2020/b.csv"}),
        ("data/\n!data/keep.csv\n", {"data/a.csv", "data/2020/b.csv", "data/keep.csv"}),
        ("data/*.csv\n", {"data/a.csv", "data/keep.csv"}),
        ("/a.csv\n", set()),
        ("2020/\r\n", {"data/2020/b.csv"}),
        ("\ufeffwire.py\n", {"wire.py"}),
        ("!report.html\n!/study*.json\n", set()),
    ],
)
def test_what_people_write_in_an_ignore_file(tmp_path, patterns, left_out):
    names = {"data/a.csv", "data/keep.csv", "data/2020/b.csv", "wire.py", "report.html", "study-2.json"}
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / IGNORE_FILE).write_bytes(patterns.encode())
    by_default = set() if "!report" in patterns else {"report.html", "study-2.json"}
    assert names_by_rule(tmp_path)[2] == names - left_out - by_default


def write_bundle_with(folder, patterns):
    """A bundle in which rule 1 leaves out data/2020/a.csv by *.csv below data/, and rule 2 does not."""
    (folder / "data" / "2020").mkdir(parents=True)
    (folder / "data" / "2020" / "a.csv").write_text("1\n")
    (folder / "data" / "b.csv").write_text("2\n")
    (folder / "log.txt").write_text("3\n")
    (folder / "wire.py").write_text("def wire(entrypoint, params, seed):\n    return {'y': b'1'}\n")
    (folder / "more.json").write_text(json.dumps(STUDY))
    (folder / IGNORE_FILE).write_text(patterns)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_bundle_with(tmp_path / "model", "data/*.csv\n**/log.txt\n")


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "study.json"
    path.write_text(json.dumps(STUDY))
    return load(path)


def fetch(folder, tmp_path, **options):
    return bundles.fetch(str(folder), tmp_path / "cache", **options)


def begin_as_before(spec, store, bundle):
    """A study of a version that did not know rule 2."""
    begin_with(bundle, store, spec, print)
    study = json.loads(store.read("study.json"))
    study.pop("digest_rule", None)
    store.put("study.json", json.dumps(study).encode())


def test_the_rules_differ_in_what_a_star_matches(folder, tmp_path):
    names = names_by_rule(folder)
    assert names[1] ^ names[2] == {"data/2020/a.csv", "log.txt"}
    assert fetch(folder, tmp_path).digest == tree.digest(folder, 2) != tree.digest(folder, 1)
    assert fetch(folder, tmp_path, digest_rule=1).digest == tree.digest(folder, 1)


def test_a_study_that_begins_records_its_rule(folder, spec, tmp_path):
    store = Store(str(tmp_path / "store"))
    begin_with(fetch(folder, tmp_path), store, spec, print)
    assert json.loads(store.read("study.json"))["digest_rule"] == 2
    old = Store(str(tmp_path / "old"))
    begin_with(fetch(folder, tmp_path, digest_rule=1), old, spec, print)
    assert "digest_rule" not in json.loads(old.read("study.json")), "as earlier versions wrote it"


def test_a_study_of_before_goes_on_with_its_digest(folder, spec, tmp_path):
    store = Store(str(tmp_path / "store"))
    begin_as_before(spec, store, fetch(folder, tmp_path, digest_rule=1))
    with pytest.raises(OtherStudy):
        begin_with(fetch(folder, tmp_path), store, spec, print)
    bundle = apply_digest_rule(store, fetch(folder, tmp_path))
    assert (bundle.digest, bundle.digest_rule) == (tree.digest(folder, 1), 1)
    assert not (bundle.path / "data/2020/a.csv").exists() and (bundle.path / "log.txt").exists()
    notes = []
    begin_with(bundle, store, spec, notes.append)
    assert not notes and read_study(store).accepted == ()
    assert find_refusal(spec, fetch(folder, tmp_path), store) is None


def test_a_harmless_change_is_judged_by_the_rule_of_the_study(folder, spec, tmp_path):
    store = Store(str(tmp_path / "store"))
    begin_as_before(spec, store, fetch(folder, tmp_path, digest_rule=1))
    (folder / "more.json").write_text(json.dumps(STUDY | {"n_replicates": 3}))
    assert find_refusal(spec, fetch(folder, tmp_path), store) is None
    (folder / "wire.py").write_text("")
    refusal = find_refusal(spec, fetch(folder, tmp_path), store)
    assert refusal and "changed wire.py" in str(refusal) and "a.csv" not in str(refusal)


@pytest.mark.parametrize("packed", [False, True])
def test_a_digest_that_is_asked_for_is_had_by_either_rule(folder, tmp_path, packed):
    for rule in DIGEST_RULES:
        wanted = fetch(folder, tmp_path, digest_rule=rule)
        source = folder
        if packed:
            source = tmp_path / f"{rule}.tar.gz"
            source.write_bytes(pack(wanted))
        elsewhere = bundles.fetch(str(source), tmp_path / "elsewhere" / str(packed), wanted.digest)
        assert elsewhere.digest == wanted.digest
    (folder / "wire.py").write_text("")
    with pytest.raises(bundles.FetchFailed, match="its tree has digest"):
        bundles.fetch(str(folder), tmp_path / "third", wanted.digest)


def test_the_pod_of_a_study_keeps_the_bundle_by_the_rule_of_its_store(folder, spec, tmp_path):
    """An archive that a newer command packed, and a store that an older driver began."""
    store, archive = Store(str(tmp_path / "store")), tmp_path / "bundle.tar.gz"
    archive.write_bytes(pack(fetch(folder, tmp_path)))
    settings = Settings(bundles_cache_dir=tmp_path / "pod")
    assert store_bundle(str(archive), Store(str(tmp_path / "new")), settings).digest == tree.digest(folder, 2)
    begin_as_before(spec, store, bundles.fetch(str(archive), tmp_path / "pod", digest_rule=1))
    bundle = store_bundle(str(archive), store, settings)
    assert bundle.digest == read_study(store).bundle and bundle.source.endswith(bundle.digest)
    assert bundles.fetch(bundle.source, tmp_path / "worker", bundle.digest).digest == bundle.digest


@pytest.mark.parametrize("line", ["!", "\\", "a\\", "[z-a]"])
def test_a_line_that_is_not_a_pattern_is_refused_with_its_place(folder, line):
    (folder / IGNORE_FILE).write_text(f"# fine\n{line}\n")
    with pytest.raises(BadInput, match=r"\.modelopsignore:2: .* correct or remove the line"):
        tree.list_files(folder)
    tree.list_files(folder, 1)  # as before


def test_a_rule_of_a_later_version_is_refused(folder, spec, tmp_path):
    store = Store(str(tmp_path / "store"))
    begin_with(fetch(folder, tmp_path), store, spec, print)
    study = json.loads(store.read("study.json"))
    store.put("study.json", json.dumps(study | {"digest_rule": 3}).encode())
    (folder / "wire.py").write_text("")
    with pytest.raises(BadInput, match=r"unknown digest rule 3.*newer mops-helm"):
        find_refusal(spec, fetch(folder, tmp_path), store)
    for damaged in (0, "2", True):
        store.put("study.json", json.dumps(study | {"digest_rule": damaged}).encode())
        with pytest.raises(Damaged, match="digest rule"):
            read_study(store)
