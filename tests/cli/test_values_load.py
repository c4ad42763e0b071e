"""The loader reads what helm reads: scalars, keys, merge keys, aliases; and knows where each value stands."""

import json

import pytest

from helm_programs import BOTH_HELMS, template
from mops_helm.values.load import loads

SCALARS = """
yes Yes YES y Y no n N NO on off On OFF true True TRUE tRue yEs "yes" 'no' ~ null Null NULL nUll ""
010 0o10 0x1F 0b11 1_000 1:30 1:30:00 1e3 1.5 .5 1. -.5 +5 +0x1 -0b1 1e+3 1E3 0.0 1_0.5 08 09 0_8
007 -0 00 0. 1000000 1e6 9007199254740992 12345678901234567890123 18446744073709551616
-9223372036854775809 0xFFFFFFFFFFFFFFFFF 0x_1 _1 1_ 1__0 0o8 0o_7 -0o7 0B1 0X1F 0O7 -0x10 1.0 100.0
1e400 0.1e-5 1e-7 1e5_0 12e03 0b2 0x 1e 1.e3 .1_0 ._1 .1_ .1__0 ._ .0_e1 1._0 .1e1_0 -.1_0 +.5
2001-01-01 2001-12-14t21:59:43.10-05:00 = << .nan_ 1.2.3 1Gi 500m 4GB ٤ +-1 --1 1e1e1 .e1 . .. +. -
+ a:b x#y
""".split()  # noqa: SIM905
DOCUMENTS = {
    "keys": '{1: 3, 1.5: 4, 010: 5, yes: 6, 1_000: 8, 0x10: 9, 1-1: 1, "": 12, 1000000: 1, 1e21: 1, n: 0}',
    "flow": 'a: {b:1}\nc: [d:1, "e":2]',
    "aliases": "x: &a {p: 1, q: {z: 1}}\nm: {<<: *a, p: 2}\nl: [*a, *a]\ns: &t text\nu: *t",
    "merge list": "x: &a {p: 1}\nz: {<<: [*a, {p: 2, q: 3}]}",
    "anchor twice": "a: &x 1\nb: *x\nc: &x 2\nd: *x",
    "blocks": "a: |\n  x\n  y\nb: >-\n  x\n  y\n\n  z\nc: |+\n  x\n\nd: 'it''s'\ne: \"\\u00e9\\t\"",
    "comments": "# top\na: 1 # one\nb: x#y\n",
    "empty": "",
    "byte order mark": "\ufeffa: 1",
    "explicit key": "? a\n: 1",
    "last duplicate": "a: 1\na: 2\nb: {c: 1}\nb: {d: 2}",
    "document end": "a: 1\n...\n",
}


@pytest.fixture(scope="session")
def probe(tmp_path_factory):
    """A chart that prints the values it was given."""
    chart = tmp_path_factory.mktemp("probe")
    (chart / "templates").mkdir()
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: probe\nversion: 0.1.0\n")
    (chart / "templates" / "values.yaml").write_text("# {{ toJson .Values }}\n")
    return chart


def read_by(helm, probe, path):
    done = template(helm, probe, "-f", path)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1].removeprefix("# "))


def as_numbers(value):
    """Equal as helm sees them: all its numbers are floating point."""
    if isinstance(value, dict):
        return {key: as_numbers(inside) for key, inside in value.items()}
    if isinstance(value, list):
        return [as_numbers(inside) for inside in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


@BOTH_HELMS
def test_scalars_are_read_as_helm_reads_them(helm, probe, tmp_path):
    text = "".join(f"v{number}:\n  - {scalar}\n" for number, scalar in enumerate(SCALARS) if scalar != "-")
    path = tmp_path / "scalars.yaml"
    path.write_text(text)
    mine = loads(text, "scalars.yaml")
    assert mine.findings == ()
    helms, ours = as_numbers(read_by(helm, probe, path)), as_numbers(mine.root.plain())
    wrong = {SCALARS[int(key[1:])]: (ours[key], helms[key]) for key in helms if ours[key] != helms[key]}
    assert wrong == {}
    assert ours.keys() == helms.keys()


@BOTH_HELMS
@pytest.mark.parametrize("text", DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_documents_are_read_as_helm_reads_them(helm, text, probe, tmp_path):
    path = tmp_path / "values.yaml"
    path.write_text(text)
    assert as_numbers(loads(text, "x").root.plain()) == as_numbers(read_by(helm, probe, path))


@BOTH_HELMS
@pytest.mark.parametrize(
    "text",
    [
        "a: [1,2",
        "a:\n\t- 1",
        "~: 1",
        "? [1]\n: 2",
        "a: *x",
        "a: &x [*x]",
        "- 1",
        "text",
        "a: .inf",
        "a: x: y",
        "<<: 5",
    ],
)
def test_what_helm_refuses_is_a_finding(helm, text, probe, tmp_path):
    path = tmp_path / "values.yaml"
    path.write_text(text)
    assert template(helm, probe, "-f", path).returncode != 0
    assert loads(text, "x").findings


def test_every_key_and_value_knows_its_place():
    root = loads(
        "# comment\nworkers:\n  threads:  2\n  tolerations:\n    - {key: a, value: é}\n", "mine.yaml"
    ).root

    def place(*path):
        where = root.find(*path).position
        return where.key_line, where.key_column, where.line, where.column

    assert place("workers") == (2, 1, 3, 3)
    assert place("workers", "threads") == (3, 3, 3, 13)
    assert place("workers", "tolerations", 0, "value") == (5, 16, 5, 23)
    assert root.find("workers", "threads").position.file == "mine.yaml"


def test_an_alias_stands_where_it_is_used():
    root = loads("a: &x {k: 1}\nb: *x\n", "mine.yaml").root
    assert (root.find("b").position.line, root.find("b").position.column) == (2, 4)
    assert root.find("b", "k").position.line == 1
