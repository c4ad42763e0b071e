"""Unquoted words of study files: what they are read as, and which may not be meant."""

import functools
import gc
import json
import math
import random
import re
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from ruamel.yaml import YAML

from modelops_dask.plan import document, scalars, spec
from modelops_dask.plan.document import BadDocument

HEAD = "model: models.sir\nscenario: baseline\n"
TRAPS = {
    "YAML_BOOLEAN": "yes Yes YES no No NO on On ON off Off OFF y Y n N",
    "YAML_OCTAL": "01001 08 09 0123 00501 007 00 -010 +07 0o17 -0o7 0_7 0o1_7",
    "YAML_UNDERSCORE": "1_000 1_0.5 1_0e3 0x1_F 0b1_0 1_ 1__0 .1_0 -1_0.5 1_0e-3",
    "YAML_SEXAGESIMAL": "12:30:45 1:30 1:30.5 190:20:30 -1:30 +1:30 0:30.",
    "YAML_NUMBER": "12E4 1e5 1e-3 1.5e3 -.5 +.5 1.e3 01E4 -1e5 .5e-3 00e1 5E22 1e-10".replace(
        ".5e-3", "-.5e-3"
    ),
    "TYPE": "2020-01-01 2001-12-14t21:59:43.10-05:00 = << 0b_ 0x_ ._ +_",
    "PARAMETER": ".nan .NaN .inf -.Inf 1e999",
}
PLAIN = """
true True TRUE false False FALSE tRue yEs NaN nan inf Infinity null Null NULL ~ nUll none None
0 1 -1 +1 -0 10 0x1F 0xff 0b11 1.10 0.10 1.0 3.14 .5 1. -1.5 +1.5 1.5e+3 1.5e-3 1.E+3 00.5 01.5 0.0
1.2.3 1Gi 500m 4GB 0O17 0X1F 0B1 09:30 1:90 _1 _ +-1 1e1e1 a:b x#y 1-1 2020-1-1 2020-13 v1.10 e5 E5
18446744073709551616 12345678901234567890123 1/2 50% $1 a
""".split()  # noqa: SIM905
ALPHABET = "00112789+-._:eExXobOyYnNfFtT"


@pytest.fixture
def load(tmp_path):
    def load(text, name="sir.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8", newline="")
        return spec.load(path)

    return load


@pytest.fixture
def places(load):
    def places(text, name="sir.yaml"):
        """Findings of a file, warnings too."""
        try:
            study = load(HEAD + text, name)
        except BadDocument as error:
            return [f"{f.line - 2}:{f.column} {f.code}" for f in error.findings]
        return [f"{f.line - 2}:{f.column} {f.code}" for f in study.warnings]

    return places


def words(seed, count):
    """Random words of the letters that numbers and truth values are made of."""
    chance = random.Random(seed)
    fixed = [word for group in TRAPS.values() for word in group.split()] + PLAIN
    for _ in range(count):
        word = "".join(chance.choices(ALPHABET, k=chance.randint(1, 7)))
        if chance.random() < 0.2:
            word = chance.choice(fixed) + chance.choice(["", *ALPHABET])
        yield word


def is_plain(word):
    """Whether a word alone is a plain scalar in a flow list and nothing else."""
    try:
        events = list(yaml.parse(f"[{word}]", Loader=yaml.SafeLoader))
    except yaml.YAMLError:
        return False
    return len(events) == 7 and isinstance(events[3], yaml.ScalarEvent) and events[3].value == word


def same(one, other):
    both_nan = isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
    return type(one) is type(other) and (one == other or both_nan)


def by_pyyaml(word):
    """The word as PyYAML reads it; the error where it refuses."""
    try:
        return yaml.safe_load(f"[{word}]")[0]
    except (yaml.YAMLError, ValueError) as error:
        return error


@pytest.mark.parametrize(
    ("code", "word"), [(code, w) for code, group in TRAPS.items() for w in group.split()]
)
def test_a_word_that_may_not_be_meant_is_a_finding(places, code, word):
    if is_plain(word):
        assert places(f"sets: [{{a: {word}}}]\n") == [f"1:12 {code}"]
    assert places(f"fixed:\n  a: {word}\nsets: [{{b: 1}}]\n") == [f"2:6 {code}"]


@pytest.mark.parametrize("word", PLAIN)
def test_a_word_that_all_read_alike_is_no_finding(load, word):
    study = load(f"{HEAD}sets: [{{a: {word}}}]\n")
    assert study.warnings == ()
    assert same(next(study.sets())[0]["a"], yaml.safe_load(word))


@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_quoted_word_is_a_text(load, quote):
    texts = [word for group in TRAPS.values() for word in group.split()]
    items = ", ".join(f"{quote}{word}{quote}" for word in texts)
    study = load(f"{HEAD}sets: [{{a: [{items}], {quote}no{quote}: 1, {quote}1{quote}: 2}}]\n")
    assert study.warnings == ()
    assert next(study.sets())[0] == {"a": texts, "no": 1, "1": 2}


def test_blocks_of_text_are_no_findings(load):
    study = load(HEAD + "sets:\n- a: |-\n    no\n  b: >-\n    0123\n  c: !!str off\n")
    assert next(study.sets())[0] == {"a": "no", "b": "0123", "c": "off"}
    assert study.warnings == ()


def test_json_has_no_words_to_misread(load):
    raw = {"model": "m.s", "scenario": "a", "parameter_sets": [{"a": "no", "b": "0123", "on": 1, "seed": 3}]}
    raw["timeout"] = 300
    text = json.dumps(raw).replace("3}", "1E5}")
    study = load(text, "a.json")
    assert next(study.sets())[0] == {"a": "no", "b": "0123", "on": 1, "seed": 1e5}
    assert study.warnings == ()


def test_findings_stand_wherever_words_do(places):
    text = (
        "fixed: {a: [1, {b: no}], c: é, d: 0123}\n"
        "grid:\n  x: [off, 'no', 08]\n  y: {low: 010, high: 1_000, num: 3}\n"
    )
    assert places(text) == [
        "1:20 YAML_BOOLEAN",
        "1:35 YAML_OCTAL",
        "3:7 YAML_BOOLEAN",
        "3:18 YAML_OCTAL",
        "4:12 YAML_OCTAL",
        "4:23 YAML_UNDERSCORE",
    ]
    sample = "sobol: {n: 1_000, seed: 07, parameters: {a: {low: -.5, high: 1, integer: no}}}\n"
    assert places(sample) == [
        "1:12 YAML_UNDERSCORE",
        "1:25 YAML_OCTAL",
        "1:51 YAML_NUMBER",
        "1:74 YAML_BOOLEAN",
    ]
    assert places("replicates: 012\nname: no\nsets:\n- {params: {a: 1}, seed: 0o17}\n") == [
        "1:13 YAML_OCTAL",
        "2:7 YAML_BOOLEAN",
        "4:26 YAML_OCTAL",
    ]


def test_names_that_are_read_otherwise_are_findings(places):
    text = "fixed: {no: 1, 12:30: 1, m: {on: 1}, n: 1, y: 2, 'off': 3}\nsets: [{a: 1, 1: 1}, {1_0: 2}]\n"
    assert places(text) == ["1:9 YAML_KEY", "1:16 YAML_KEY", "1:30 YAML_KEY", "2:15 TYPE", "2:23 TYPE"]


def test_an_alias_has_the_finding_of_its_anchor_once(places):
    text = "metadata: {a: &no no, b: off, on: 1}\nfixed: {x: *no, y: &m {z: 0123}, w: *m}\nsets: [{a: *no}]\n"
    assert places(text) == ["1:15 YAML_BOOLEAN", "2:27 YAML_OCTAL"]


def test_metadata_is_anything(load):
    study = load(HEAD + "metadata: {reviewed: yes, version: 012, 12:30: 1}\nsets: [{a: 1}]\n")
    assert study.metadata == {"reviewed": "yes", "version": 12, "12:30": 1}
    assert study.warnings == ()


def test_a_word_that_is_misread_is_one_finding(places):
    assert places("replicates: 1e3\nsets: [{a: 1}]\n") == ["1:13 TYPE"]
    assert places("replicates: yes\nsets: [{a: 1}]\n") == ["1:13 YAML_BOOLEAN"]


def test_a_time_with_colons_is_not_advised_where_it_is_refused_in_quotes_too(places):
    assert places("timeout: 12:30\nsets: [{a: 1}]\n") == ["1:10 DURATION"]
    assert places("replicates: 12:30\nsets: [{a: 1}]\n") == ["1:13 TYPE"]
    assert places("sets: [{a: 12:30}]\n") == ["1:12 YAML_SEXAGESIMAL"]


def test_a_name_that_is_misread_hides_nothing(places):
    text = "sets:\n- no: 1\n- no: 1\n"
    assert places(text) == ["2:3 YAML_KEY", "3:3 DUPLICATE_SET", "3:3 YAML_KEY"]


def test_windows_files_and_byte_order_marks_keep_their_columns(load):
    text = "\ufeff" + (HEAD + "sets:\n- {é: 1, 𝛽: no}\n").replace("\n", "\r\n")
    with pytest.raises(BadDocument, match=r"sir\.yaml:4:13  YAML_BOOLEAN"):
        load(text)


def test_tags_that_change_nothing_are_read(load):
    study = load(HEAD + "sets: [{a: !!int '12', b: !!float 1, c: !!bool yes, d: !!null ~, e: !!float 1e3}]\n")
    assert next(study.sets())[0] == {"a": 12, "b": 1.0, "c": True, "d": None, "e": 1000.0}
    assert study.warnings == ()


@pytest.mark.parametrize("seed", range(3))
def test_every_word_that_pyyaml_reads_otherwise_is_a_finding_and_no_other(seed):
    """Beside leading zeros and underscores, which get lost in both, and y and n, which are true to helm."""
    for word in filter(is_plain, words(seed, 4000)):
        theirs = by_pyyaml(word)
        try:
            ours = scalars.resolve(word)
        except ValueError:
            continue  # refused, as dates are
        trap = scalars.trap(word, ours)
        if trap is None:
            assert same(ours, theirs), (seed, word, ours, theirs)
        elif same(ours, theirs):
            assert trap.code in ("YAML_OCTAL", "YAML_UNDERSCORE") or word in "yYnN", (seed, word, trap)
        key_trap = scalars.key_trap(word) if isinstance(ours, str) else None
        if isinstance(ours, str):
            assert (key_trap is None) == same(ours, theirs), (seed, word, theirs)


class Writer:
    """Writes random YAML: block and flow style, quotes, comments, anchors and aliases."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.words = [word for word in words(seed, 400) if is_plain(word) and word not in ("<<", "=")]
        self.anchors = 0

    def scalar(self):
        chance, word = self.chance, self.chance.choice(self.words)
        kind = chance.random()
        if kind < 0.15 and self.anchors:
            return f"*a{chance.randrange(self.anchors)} "
        if kind < 0.3:
            return chance.choice([f"'{word}'", f'"{word}"'])
        if kind < 0.4:
            self.anchors += 1
            return f"&a{self.anchors - 1} {word}"
        return word

    def names(self):
        """Different ones: as they are, quoted, or with a letter that makes them texts."""
        for word in self.chance.sample(self.words, self.chance.randint(1, 4)):
            text = word.isalpha() and isinstance(yaml.safe_load(word), str)
            yield word if text else self.chance.choice([f"'{word}'", f"é{word}"])

    def flow(self, depth):
        if depth == 0 or self.chance.random() < 0.4:
            return self.scalar()
        if self.chance.random() < 0.5:
            return f"[{', '.join(self.flow(depth - 1) for _ in range(self.chance.randint(0, 3)))}]"
        return "{" + ", ".join(f"{name}: {self.flow(depth - 1)}" for name in self.names()) + "}"

    def block(self, depth, indent):
        """Lines of a mapping."""
        for name in self.names():
            if depth and self.chance.random() < 0.4:
                yield f"{indent}{name}:  # {self.chance.choice(self.words)}"
                yield from self.block(depth - 1, indent + "  ")
            else:
                yield f"{indent}{name}:   {self.flow(2)}  # é"


def scalars_of(node, path=()):
    """(path, node) of every scalar that PyYAML composes, aliases too."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from scalars_of(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield from scalars_of(value, (*path, number))
    else:
        yield path, node


@pytest.mark.parametrize("seed", range(30))
def test_a_random_file_has_a_finding_just_where_pyyaml_differs(tmp_path, seed):
    text = "\n".join(Writer(seed).block(2, "")) + "\n"
    path = tmp_path / "random.yaml"
    path.write_text(text, encoding="utf-8")
    read = document.read(path)
    found = {(f.line, f.column): f.code for f in read.findings if f.code != "YAML_KEY"}
    differing, lossy = set(), set()
    for steps, node in scalars_of(yaml.compose(text, Loader=yaml.SafeLoader)):
        ours = functools.reduce(lambda value, step: value[step], steps, read.value)
        loader = yaml.SafeLoader("")
        try:
            theirs = loader.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            theirs = error
        place = node.start_mark.line + 1, node.start_mark.column + 1
        assert read.position(steps) == place, (seed, steps, text)
        if not same(ours, theirs):
            differing.add(place)
        elif node.style is None and (node.value in "yYnN" or re.search(r"_|^[-+]?0o?[0-9]", node.value)):
            lossy.add(place)
    assert differing <= found.keys(), (seed, differing - found.keys(), text)
    assert found.keys() <= differing | lossy, (seed, found.keys() - differing - lossy, text)


@pytest.mark.parametrize("seed", range(3))
def test_what_a_finding_advises_is_read_alike_by_all(seed):
    for word in filter(is_plain, words(seed, 2000)):
        try:
            value = scalars.resolve(word)
            trap = scalars.trap(word, value)
        except ValueError:
            continue
        if trap is None or value in (math.inf, -math.inf):
            continue
        for form in trap.message.partition("; write ")[2].split(" or "):
            theirs = yaml.safe_load(form)
            if form.startswith('"'):
                assert theirs == word, (seed, word, form)
            else:
                assert same(scalars.resolve(form), theirs), (seed, word, form)
                assert scalars.trap(form, theirs) is None, (seed, word, form)
                if isinstance(value, int | float):
                    assert same(theirs, value), (seed, word, form)


@pytest.mark.parametrize("seed", range(3))
def test_words_are_read_as_they_always_were(seed):
    """ruamel.yaml read study files in 0.1.0."""
    reader = YAML(typ="safe", pure=True)
    for word in filter(is_plain, words(seed, 1500)):
        node = reader.compose(f"[{word}]").value[0]
        before = ValueError
        if node.tag.rpartition(":")[2] in ("str", "int", "float", "bool", "null"):
            with suppress(ValueError):
                before = reader.constructor.construct_object(node)
        try:
            now = scalars.resolve(word)
        except ValueError:
            now = ValueError
        assert same(now, before), (seed, word, now, before)


OLD = Path(__file__).with_name("studies_of_0_1_0")
PLANS = json.loads((OLD / "plans.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PLANS)
def test_a_study_file_of_0_1_0_gives_the_same_plan(name):
    """plans.json was written by 0.1.0."""
    study = spec.load(OLD / name)
    sets = list(study.sets())
    assert PLANS[name] == {
        "name": study.name,
        "entrypoint": study.entrypoint,
        "replicates": study.replicates,
        "tasks": study.n_tasks,
        "params": [json.dumps(params, sort_keys=True) for params, _ in sets],
        "seeds": [seed for _, seed in sets],
    }


def test_a_missing_space_after_a_colon_is_a_finding(places):
    text = 'fixed: {pop:1000, b: 1}\nsets: [{r0:2.5, days:5}, {"a:b": 1, c:d: 2}]\n'
    assert places(text) == ["1:9 YAML_COLON", "2:9 YAML_COLON", "2:17 YAML_COLON"]


def test_a_parameter_without_a_value_is_warned_of(places):
    fixed = "fixed:\n  beta:\n  color: #fff\n  z: null\n  y: ~\n  t: ''\n"
    text = fixed + "sets: [{a: , b: 1}, {c}]\nmetadata: {x: }\n"
    expected = ["2:3 YAML_EMPTY", "3:3 YAML_EMPTY", "7:9 YAML_EMPTY", "7:22 YAML_EMPTY"]
    assert places(text) == expected


def test_common_numbers_are_read_as_pyyaml_reads_them_and_are_no_trap():
    """Both are decided for them without a look at PyYAML."""
    words = ["0", "-0", "7", "-12", "1234567890123456", "0.0", "-0.5", "2.50", "10.0", "999999999999999.25"]
    chance = random.Random(19)
    words += [str(chance.randint(-(10**15), 10**15)) for _ in range(50)]
    words += [f"{chance.uniform(-1e6, 1e6):.7f}" for _ in range(50)]
    for word in words:
        value = scalars.resolve(word)
        assert same(value, scalars.pyyaml_value(word)) and same(value, yaml.safe_load(word)), word
        assert scalars.trap(word, value) is None
    for word in ("007", "1_000", "08", "-01", "1e5", "0o7"):
        assert scalars.trap(word, scalars.resolve(word)) is not None, word


def test_garbage_is_collected_again_after_a_file_was_read(tmp_path):
    path = tmp_path / "study.yaml"
    for text in ("model: m.s\nscenario: b\nsets: [{a: 1}]\n", "nothing: [of\n"):
        path.write_text(text)
        with suppress(BadDocument):
            spec.load(path)
        assert gc.isenabled()
