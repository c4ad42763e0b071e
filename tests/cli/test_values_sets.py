"""--set means what it means to helm."""

import json

import pytest

from helm_programs import BOTH_HELMS, template
from mops_helm.values import sets
from mops_helm.values.load import loads

BASE = "f: {l: [1, {z: 1}], s: x, m: {k: 1}}\n"
FLAGS = r"""
a.b=c
a\.b=c
a={x,y}
a={}
a={1,true,null,1.5}
a[0]=x,a[2].b=y
a=null
a=TRUE
a=01,b=1,c=-5,d=+7,e=1.5,f=1e3,g=0,h=00
a=
a=,b=1
a=b=c
a=x\,y
a[0][1]=q
a={x,y},b=2
a.b=1,a=2
a.b=1,a.c=2
a=99999999999999999999
a=9223372036854775807,b=-9223372036854775808
a= x
a=yes
a={a b, c}
f.k=2
f.l[0]=2
f.l[3]=2
f.l[1].z=2
f.l={9}
f.m=1
f=1
a=\{x}
a={{x}
a.b=null
""".strip().splitlines()
REFUSED = [
    "a",
    "a,b=1",
    "a.b",
    "a[x]=1",
    "a[-1]=1",
    "a={x",
    "a={x,y}z",
    "a=1,a.b=2",
    "a[0]b=1",
    "a..b=1",
    "a.=1",
    "f.s.t=1",
    "f.m[0]=1",
]


@pytest.fixture(scope="session")
def probe(tmp_path_factory):
    chart = tmp_path_factory.mktemp("sets")
    (chart / "templates").mkdir()
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: probe\nversion: 0.1.0\n")
    (chart / "templates" / "values.yaml").write_text("# {{ toJson .Values }}\n")
    (chart / "base.yaml").write_text(BASE)
    return chart


@BOTH_HELMS
@pytest.mark.parametrize("flag", FLAGS)
def test_a_flag_means_what_it_means_to_helm(helm, flag, probe):
    done = template(helm, probe, "-f", probe / "base.yaml", "--set", flag)
    assert done.returncode == 0, done.stderr
    ours = sets.load([flag], loads(BASE, "base.yaml").root)
    assert ours.findings == ()
    # helm's answer has been through JSON, where 9223372036854775807 is what a float makes of it
    assert without_nulls(ours.root.plain()) == without_nulls(json.loads(done.stdout.splitlines()[-1][2:]))


def without_nulls(value):
    """Helm 4 drops nulls from maps, Helm 3 keeps those without a default; `values check` refuses both."""
    if isinstance(value, dict):
        return {key: without_nulls(inside) for key, inside in value.items() if inside is not None}
    return value


@BOTH_HELMS
@pytest.mark.parametrize("flag", REFUSED)
def test_what_helm_refuses_is_a_finding(helm, flag, probe):
    assert template(helm, probe, "-f", probe / "base.yaml", "--set", flag).returncode != 0
    (finding,) = sets.load(["x=1", flag], loads(BASE, "base.yaml").root).findings
    assert (finding.file, finding.line, finding.code) == ("--set", 2, "SET_SYNTAX")


def test_the_values_under_the_flags_stay_as_they_were():
    base = loads(BASE, "base.yaml").root
    before = base.plain()
    sets.load(["f.l[1].z=2", "f.m.k=3"], base)
    assert base.plain() == before
