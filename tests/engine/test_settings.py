"""Settings: the variables of a worker, typed, and the same as the chart's values."""

from dataclasses import fields

import pytest
from ruamel.yaml import YAML

from modelops_dask.errors import BadInput
from modelops_dask.settings import Settings
from mops_helm.paths import SCHEMAS
from mops_helm.values.quantity import to_bytes

NOT_VALUES = {  # variables that no value of the chart becomes
    "MODELOPS_BUNDLES_CACHE_DIR",  # a path in the pod: the chart's own
    "MODELOPS_VENVS_DIR",  # the same
    "MODELOPS_SCRATCH_BYTES",  # workers.scratch.sizeLimit, which is a pool's own
    "MODELOPS_SEED_GLOBALS",  # for diagnosis
}


def values_with_variables(schema: dict):
    if "x-env" in schema:
        yield schema["x-env"], schema["default"]
    for child in schema.get("properties", {}).values():
        yield from values_with_variables(child)


def test_the_schema_and_the_settings_have_the_same_variables_and_defaults():
    in_schema = {}
    schema = YAML(typ="safe").load((SCHEMAS / "values.schema.yaml").read_text())
    for name, default in values_with_variables(schema):
        in_schema[name] = to_bytes(default) if name.endswith("_BYTES") else default
    defaults = Settings()
    in_settings = {item.metadata["env"]: getattr(defaults, item.name) for item in fields(Settings)}
    assert {name: value for name, value in in_settings.items() if name not in NOT_VALUES} == in_schema


def test_settings_survive_the_environment():
    changed = Settings(preset="cold", executor_type="cold", force_fresh_venv=True, max_warm_processes=7)
    assert Settings.from_env(changed.to_env()) == changed
    assert Settings.from_env({}) == Settings()


def test_caches_follow_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Settings().bundles_cache_dir == tmp_path / "modelops-dask" / "bundles"
    assert Settings.from_env({"MODELOPS_VENVS_DIR": "~/venvs"}).venvs_dir.is_absolute()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "MODELOPS_EXECUTOR_TYPE",
            "warm",
            "expected one of isolated_warm, isolated_fork, cold,",
        ),
        ("MODELOPS_EXECUTOR_ENVIRONMENT", "conda", "expected one of bundle, image"),
        ("MODELOPS_MAX_WARM_PROCESSES", "-1", "expected a whole number"),
        ("MODELOPS_MAX_WARM_PROCESSES", "1e3", "expected a whole number"),
        ("MODELOPS_PROCESS_TTL", "٣", "expected a whole number"),
        ("MODELOPS_FORCE_FRESH_VENV", "yes", "expected true or false"),
    ],
)
def test_a_variable_that_cannot_be_read_is_named(name, text, said):
    with pytest.raises(BadInput) as refused:
        Settings.from_env({name: text})
    assert f"{name}={text!r}" in str(refused.value)
    assert said in str(refused.value)


def test_all_problems_are_said_at_once():
    wrong = {"MODELOPS_PROCESS_TTL": "x", "MODELOPS_VALIDATE_DEPS": "on", "MODELOPS_EXECUTOR_TYPE": "y"}
    with pytest.raises(BadInput) as refused:
        Settings.from_env(wrong)
    assert all(name in str(refused.value) for name in wrong)


def test_every_variable_of_the_guide_holds_or_is_refused_by_name():
    guide = {
        "MODELOPS_BUNDLE_SOURCE": "oci",
        "MODELOPS_BUNDLES_CACHE_DIR": "/tmp/modelops/bundles",
        "MODELOPS_VENVS_DIR": "/tmp/modelops/venvs",
        "MODELOPS_STORAGE_DIR": "/data",
        "MODELOPS_EXECUTOR_TYPE": "isolated_warm",
        "MODELOPS_MAX_WARM_PROCESSES": "128",
        "MODELOPS_RPC_TIMEOUT_SECONDS": "1800",
        "MODELOPS_INLINE_ARTIFACT_MAX_BYTES": "64000",
        "MODELOPS_FORCE_FRESH_VENV": "false",
        "MODELOPS_VALIDATE_DEPS": "true",
        "MODELOPS_MAX_PROCESS_REUSE": "1000",
        "MODELOPS_PROCESS_TTL": "3600",
        "MODELOPS_MEM_LIMIT_BYTES": "1073741824",
    }
    read = {item.metadata["env"] for item in fields(Settings)}
    for name, value in guide.items():
        if name in read:
            assert Settings.from_env({name: value}).to_env()[name] == value
        else:
            with pytest.raises(BadInput, match=f"^{name}: not used; "):
                Settings.from_env({name: value})


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("MODELOPS_MAX_WARM_PROCESES", "MODELOPS_MAX_WARM_PROCESSES"),
        ("MODELOPS_EXECUTER_TYPE", "MODELOPS_EXECUTOR_TYPE"),
        ("MODELOPS_PROCESS_TTL_SECONDS", "MODELOPS_PROCESS_TTL"),
        ("MODELOPS_RPC_TIMEOUT", "MODELOPS_RPC_TIMEOUT_SECONDS"),
    ],
)
def test_a_slip_is_not_passed_over(slip, meant):
    with pytest.raises(BadInput, match=rf"^{slip}: did you mean {meant}\?$"):
        Settings.from_env({slip: "1"})


def test_variables_of_others_are_left_alone():
    theirs = {"MODELOPS_DASK_SERVICE_HOST": "10.0.0.1", "MODELOPS_DASK_PORT": "tcp://10.0.0.1:8786"}
    assert Settings.from_env({**theirs, "MODELOPS_DASK_SCHEDULER_PORT_8786_TCP_ADDR": "x"}) == Settings()
