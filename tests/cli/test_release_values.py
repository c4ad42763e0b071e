"""Presets of a release are laid in place of each other, and one's own values come back unharmed."""

import random
import re

import pytest
from click.testing import CliRunner

from modelops_dask.errors import BadInput
from mops_helm.helm import ReleaseRef
from mops_helm.main import main
from mops_helm.release.release import NoRelease
from mops_helm.release.values import ReleaseLayers, ReleaseRequest, merge_request, split_layers
from mops_helm.values import presets
from mops_helm.values.findings import BadValues
from mops_helm.values.tree import flatten

ISOLATION = presets.isolation_names()
WORKLOAD = [preset.name for preset in presets.all_presets() if preset.kind == "workload"]


def upgraded(values: dict, *names: str, **asked: object) -> dict:
    """The release's values after `upgrade --preset NAME… -f FILE… --set FLAG…`."""
    return merge_request(split_layers(values), ReleaseRequest(names, **asked), "sims").helm_values


@pytest.fixture
def mine(tmp_path):
    """A values file that says what presets say, and what they do not."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        "workers: {processes: 2, threads: 1, replicas: 3, nodeSelector: {modelops.io/role: cpu}}\n"
        "executor: {workerMemory: 200Mi}\nimage: {tag: '1'}\n"
    )
    return path


def test_there_and_back_gives_the_same_values(mine):
    before = upgraded({}, "baseline", files=(mine,))
    debugged = upgraded(before, "debug-isolated")
    assert (debugged["preset"], debugged["workers"]["processes"]) == ("debug-isolated", 1)
    assert debugged["workers"]["replicas"] == 3
    assert upgraded(debugged, "baseline") == before


def test_what_helm_alone_installed_goes_there_and_back():
    """No note of layers is there, and none is left behind."""
    before = {"preset": "baseline", "executor": presets.find("baseline").values["executor"]}
    before["workers"] = {"memoryPerProcess": "2Gi"}
    assert upgraded(upgraded(before, "debug-isolated"), "baseline") == before


def test_a_value_that_equals_the_presets_stays_when_the_preset_goes(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("workers: {processes: 1}\n")
    debugged = upgraded({}, "debug-isolated", files=(path,))
    assert upgraded(debugged, "baseline")["workers"] == {"processes": 1}


def test_a_workload_preset_lies_under_ones_own_values(mine):
    before = upgraded({}, "simulation", "baseline", files=(mine,))
    assert (before["workers"]["processes"], before["workers"]["replicas"]) == (2, 3)
    other = upgraded(before, "external-threads")
    assert other["workers"]["env"] == presets.find("external-threads").values["workers"]["env"]
    assert (other["workers"]["processes"], other["preset"]) == (2, "baseline")
    assert upgraded(other, "simulation") == before


def test_what_helm_changed_meanwhile_is_ones_own(mine):
    debugged = upgraded({}, "simulation", "debug-isolated", files=(mine,))
    debugged["workers"]["replicas"] = 7
    debugged["commonLabels"] = {"team": "epi"}
    back = upgraded(debugged, "baseline")
    assert (back["workers"]["replicas"], back["commonLabels"]) == (7, {"team": "epi"})


def test_files_lie_over_what_is_there_or_replace_it_and_presets_stay(mine, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text("image: {tag: '2'}\n")
    before = upgraded({}, "simulation", "cold", files=(mine,))
    after = upgraded(before, files=(other,))
    assert (after["image"]["tag"], after["workers"]["replicas"], after["preset"]) == ("2", 3, "cold")
    after = upgraded(before, files=(other,), reset=True)
    assert split_layers(after) == ReleaseLayers("simulation", {"image": {"tag": "2"}}, "cold")


def test_a_file_that_names_a_preset_replaces_it(mine):
    after = upgraded(upgraded({}, "debug-isolated"), files=(presets.find("cold").path, mine))
    assert after["executor"]["type"] == "cold"
    assert after["preset"] == "cold"


def test_set_changes_one_value_and_lasts():
    after = upgraded(upgraded({}, "cold", sets=("workers.replicas=5",)), sets=("image.tag=new",))
    assert after["workers"]["replicas"] == 5
    assert upgraded(after, "baseline")["workers"]["replicas"] == 5


def test_set_against_the_preset_is_refused_and_what_it_says_to_do_works():
    before, other = upgraded({}, "cold"), "executor.type=direct"
    with pytest.raises(BadValues, match=r"PRESET_BINDING .*--set preset=") as refused:
        upgraded(before, sets=(other,))
    (unsaid,) = re.findall(r"--set (preset=)", str(refused.value))
    after = upgraded(before, sets=(other, unsaid))
    assert (after["preset"], after["executor"]["type"]) == ("", "direct")


def test_bad_values_of_the_release_itself_say_where():
    with pytest.raises(BadValues, match="values of release sims:2:"):
        upgraded({"workers": {"replica": 3}}, "cold")


def test_one_preset_of_a_kind():
    with pytest.raises(BadInput, match="simulation and ml are both workload presets"):
        upgraded({}, "simulation", "ml")
    with pytest.raises(BadInput, match="did you mean"):
        upgraded({}, "simulatoin")


BAD_FOR_ALL = {
    "preset": (["--preset", "simulaton"], "unknown preset simulaton; did you mean simulation?"),
    "two presets": (["--preset", "ml", "--preset", "simulation"], "both workload presets"),
    "no file": (["-f", "nosuch.yaml"], "nosuch.yaml"),
    "values": (
        ["-f", "bad.yaml", "--dry-run"],
        "bad.yaml:1:11  UNKNOWN_NAME  unknown value workers.replcias",
    ),
    "flag": (["--set", "executor.type=warm"], "--set:1:1  NOT_ALLOWED"),
    "half a flag": (["--set", "workers.replicas"], "SET_SYNTAX"),
}
MENDED = [
    ["--set", "workers.autoscaling.minReplicas=20"],  # the release may have more at most
    ["--set", "workers.tolerations[1].effect=NoSchedule"],  # or two of them
    ["--set", "workers.env.MODELOPS_EXECUTOR_TYPE=cold"],  # or be plain Dask
]


@pytest.fixture
def away(tmp_path, monkeypatch):
    """The command in a folder with bad.yaml, where no cluster is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    (tmp_path / "bad.yaml").write_text("workers: {replcias: 3}\n")
    return lambda *args: CliRunner().invoke(main, args)


@pytest.mark.parametrize("verb", ["install", "upgrade"])
@pytest.mark.parametrize("arguments, said", BAD_FOR_ALL.values(), ids=BAD_FOR_ALL.keys())
def test_what_is_wrong_here_is_said_without_a_cluster(away, verb, arguments, said):
    done = away(verb, "sims", *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert "cluster" not in done.stderr


@pytest.mark.parametrize("arguments", MENDED, ids=lambda arguments: arguments[1])
def test_what_the_release_may_mend_waits_for_the_cluster(away, arguments):
    assert away("install", "sims", *arguments).exit_code == 2
    done = away("upgrade", "sims", *arguments)
    assert done.exit_code == 5
    assert "No connection to the cluster" in done.stderr


def test_good_values_need_the_cluster(away):
    assert away("install", "sims", "--preset", "simulation", "--no-warm-processes").exit_code == 5


def test_helm_commands_to_paste_name_a_context_of_any_name():
    said = str(NoRelease(ReleaseRef("sims", "epi", "my cluster")))
    assert "releases: helm --namespace epi --kube-context 'my cluster' list " in said


def test_any_walk_over_presets_ends_where_it_began():
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    paths = sorted({path for name in presets.list_names() for path in flatten(presets.find(name).values)})
    for _ in range(6):
        sets = []
        for path in chance.sample(paths, 3):
            stated = [flatten(presets.find(name).values).get(path) for name in presets.list_names()]
            value = chance.choice([value for value in stated if value is not None])
            if path[0] in ("workers", "dask"):  # an isolation preset binds the others
                name = ".".join(step.replace(".", "\\.") for step in path)
                sets.append(f"{name}={str(value).lower() if isinstance(value, bool) else value}")
        sets += ["workers.processes=1", "workers.threads=1"]  # what some isolation presets bind
        names = [chance.choice(ISOLATION), chance.choice(WORKLOAD)]
        before = values = upgraded({}, *names, sets=tuple(sets))
        for _ in range(3):
            values = upgraded(values, chance.choice(ISOLATION), chance.choice(WORKLOAD))
        assert upgraded(values, *names) == before, (names, sets)
