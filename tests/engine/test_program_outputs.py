"""Output files of programs: the same file is the same table in every task, and what is none is named."""

import csv
import io
import math
import random
import re
from fractions import Fraction

import pytest

from modelops_dask.executors.program_outputs import (
    Files,
    MissingOutput,
    UnreadableOutput,
    read_csv,
    read_outputs,
)


def read(text):
    return read_csv(text.encode() if isinstance(text, str) else text, "output a, a.csv")


COLUMNS = {
    "whole numbers": (["1", "-2", "+3", " 4 "], [1, -2, 3, 4]),
    "the largest": (["9223372036854775807", "-9223372036854775808"], [2**63 - 1, -(2**63)]),
    "beyond": (["9223372036854775808", "1"], [2**63, 1]),
    "seeds": (["18446744073709551615", ""], [2**64 - 1, None]),
    "beyond, and negative": (["9223372036854775808", "-1"], [2.0**63, -1.0]),
    "exact as floats": (["18446744073709551616", "9007199254740992", "0.5"], [2.0**64, 2.0**53, 0.5]),
    "zeros": (["0.0", "0e999", "-.0", "0"], [0.0, 0.0, -0.0, 0.0]),
    "numbers": (["1", "2.5", "-.5", "1.", "1e-3", "+1E+05"], [1.0, 2.5, -0.5, 1.0, 0.001, 1e5]),
    "infinite": (["nan", "-inf", "Infinity", "1"], [math.nan, -math.inf, math.inf, 1.0]),
    "missing": (["1", "", "3"], [1, None, 3]),
    "missing as R has it": (["1.5", "NA", "3"], [1.5, None, 3.0]),
    "truths": (["true", "false", ""], [True, False, None]),
    "truths as R has them": (["TRUE", "FALSE", "NA"], [True, False, None]),
    "text": (["a", "", "b c"], ["a", None, "b c"]),
    "text with NA": (["NA", "DE", ""], ["NA", "DE", None]),
    "text among numbers": (["1", "x"], ["1", "x"]),
    "leading zeros": (["007", "12"], ["007", "12"]),
    "underscores": (["1_000"], ["1_000"]),
    "other digits": (["٣"], ["٣"]),
    "dates": (["2020-01-01"], ["2020-01-01"]),
    "hexadecimal": (["0x1F"], ["0x1F"]),
    "nothing": (["", "NA", ""], [None, None, None]),
    "quoted lines": (["1\n2", "3"], ["1\n2", "3"]),
    "truths among numbers": (["true", "1"], ["true", "1"]),
}


@pytest.mark.parametrize(
    ("number", "other"),
    [
        ("18446744073709551615", "-1"),
        ("-9223372036854775809", "1"),
        ("123456789012345678901", "1"),
        *[("9007199254740993", other) for other in ("0.5", "NaN", "1e3", "inf", "1.")],
    ],
)
def test_a_large_whole_number_never_loses_digits(number, other):
    for text in (f"id\n{other}\n{number}\n", f"id\n{number}\n{other}\n"):
        with pytest.raises(UnreadableOutput, match=f"column id: {number} has more digits"):
            read(text)


EXTREME = ["1e400", "-1e400", "1" + "0" * 400 + ".5", "1e-400", "0." + "0" * 400 + "1"]


@pytest.mark.parametrize("number", EXTREME)
def test_a_number_that_no_float_comes_near_is_refused(number, tmp_path):
    with pytest.raises(UnreadableOutput, match=r"column x: .* (larger than|nearer to 0 than) any float"):
        read(f"x\n1.5\n{number}\n")
    (tmp_path / "a.json").write_text(f"[1.5, {number}]")
    with pytest.raises(UnreadableOutput, match="any float"):
        read_outputs({"a": ("a.json", "json")}, str(tmp_path), None)


def test_thousands_of_digits_are_refused_in_words_for_people(tmp_path):
    with pytest.raises(UnreadableOutput, match=r"column x: 1{30}\.\.\. \(5,000 characters\) has more digits"):
        read("x\n" + "1" * 5000 + "\n")
    (tmp_path / "a.json").write_text("1" * 5000)
    with pytest.raises(UnreadableOutput, match="a whole number has thousands of digits"):
        read_outputs({"a": ("a.json", "json")}, str(tmp_path), None)


@pytest.mark.parametrize("seed", range(5))
def test_numbers_are_stored_exactly_or_refused(seed):
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(300):
        fields = [
            rng.choice(["0.5", "nan", "-1", "7", str(rng.randrange(2**64)), str(-rng.randrange(2**63))])
            for _ in range(rng.randrange(1, 4))
        ]
        try:
            values = read("row,x\n" + "".join(f"0,{field}\n" for field in fields))["x"]
        except UnreadableOutput:
            continue
        exact = [Fraction(field) if field != "nan" else None for field in fields]
        assert [None if value != value else Fraction(value) for value in values] == exact


def test_an_empty_line_of_one_column_is_a_row():
    assert read("x\n1\n\n3\n") == read('x\n1\n""\n3\n') == {"x": [1, None, 3]}
    assert read("x,y\n1,2\n\n3,4\n") == {"x": [1, 3], "y": [2, 4]}


def test_one_column_may_have_blanks():
    assert read("infected people\n1\n2\n") == {"infected people": [1, 2]}


@pytest.mark.parametrize(("fields", "values"), COLUMNS.values(), ids=COLUMNS)
def test_a_columns_type_follows_from_its_fields(fields, values):
    stream = io.StringIO()
    csv.writer(stream).writerows(
        [["key", "value"], *([number, field] for number, field in enumerate(fields))]
    )
    column = read(stream.getvalue())["value"]
    assert [type(value) for value in column] == [type(value) for value in values]
    assert repr(column) == repr(values)


def test_columns_of_numbers_come_back_as_they_were():
    seed = 1812
    print("seed", seed)
    generator = random.Random(seed)
    makers = [
        lambda: generator.randrange(-(2**63), 2**63),
        lambda: generator.uniform(-1, 1) * 10.0 ** generator.randrange(-300, 300),
        lambda: generator.random() < 0.5,
        lambda: "x" + "".join(generator.choices("ab \",;\n'ü", k=5)),
    ]
    for _ in range(100):
        columns = {}
        for number in range(generator.randrange(1, 5)):
            make = generator.choice(makers)
            values = [make() for _ in range(5)]
            columns[f"c{number}"] = [None if generator.random() < 0.2 else value for value in values]
        columns["row"] = list(range(5))  # so that no line is empty
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator=generator.choice(["\n", "\r\n"]))
        writer.writerows([columns, *zip(*columns.values(), strict=True)])
        assert read(stream.getvalue()) == columns


def test_the_form_of_the_file_does_not_matter():
    table = {"a": [1, 2], "b": ["x", "y"]}
    for text in (
        "a,b\n1,x\n2,y\n",
        "a,b\r\n1,x\r\n2,y",
        "\ufeffa,b\n1,x\n\n2,y\n\n",
        '"a","b"\n"1","x"\n2,y\n',
    ):
        assert read(text) == table
    assert read("a,b\n") == {"a": [], "b": []}
    assert read('"","a"\n"1",5\n') == {"index": [1], "a": [5]}  # row names of R


BAD = {
    "": "the first line must name the columns",
    "\na,b\n": "the first line must name the columns",
    "1,2\n3,4\n": "the first line must name the columns, but it has numbers",
    "a,b\n1,2\n3\n": "line 3: 1 fields, but the first line names 2",
    "a,b\n1,2,3\n": "line 2: 3 fields",
    "a,,b\n1,2,3\n": "no name for column 2",
    "a,b, a\n1,2,3\n": "names a twice",
    "a;b\n1;2\n": "separated by semicolons; separate them by commas",
    "a;b\n1,5;2,5\n": "separated by semicolons; separate them by commas",
    "S\tI\tR\n1\t2\t3\n": "separated by tabs; separate them by commas",
    " time  S  I\n 0.0  990  10\n 1.0  9  1\n": "separated by blanks; separate them by commas",
    b"a,b\n1,\xff\n": "not UTF-8 at byte 6",
    'a,b\n"1,2\n3,4': "line 3: unexpected end of data",
    'a,b\n"1"x,2\n': "line 2: ',' expected after",
}


@pytest.mark.parametrize(("text", "problem"), BAD.items(), ids=map(str, range(len(BAD))))
def test_what_is_no_table_is_named_with_its_line(text, problem):
    with pytest.raises(UnreadableOutput) as caught:
        read(text)
    assert str(caught.value).startswith("output a, a.csv") and problem in str(caught.value)


def test_a_field_may_be_long():
    assert read("a\n" + "x" * 200_000) == {"a": ["x" * 200_000]}


def test_a_table_of_a_task_has_the_same_bytes_however_it_was_written(tmp_path):
    def outputs(text):
        (tmp_path / "a.csv").write_text(text, newline="")
        return read_outputs({"a": ("a.csv", "csv")}, str(tmp_path), None)["a"]

    assert outputs("x,y\n1,a\n,b\n") == outputs('"x","y"\r\n"1",a\r\nNA,"b"\r\n')
    assert outputs("x,y\n1,a\n") != outputs("x,y\n1.0,a\n")


def test_outputs_keep_their_names_whatever_is_in_them(tmp_path):
    files = {
        "n.json": "5",
        "row.json": '{"a": 1, "b": "x"}',
        "rows.json": '[{"a": 1}, {"a": 2}]',
        "raw": "{}",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    kinds = {name: (name, "json" if name.endswith("json") else "raw") for name in files}
    assert list(read_outputs(kinds, str(tmp_path), None)) == list(files)


NOT_STORED = {
    '{"rate": 0.5, "curve": [1, 2]}': "is an object whose entry 'curve' is a list. A JSON file is one table",
    '{"x": [{"a": 1}]}': "is an object whose entry 'x' is a list. A JSON file is one table",
    "null": "output a, a.json is null. A JSON file is one table",
    '{"a": 1}\n{"a": 2}\n': "If it has a value in each line (JSON lines), write one list",
    '[{"a": 1, "b": {"c": 2, "c": 3}}]': "an object has 'c' twice",
}


@pytest.mark.parametrize(("text", "words"), NOT_STORED.items(), ids=range(len(NOT_STORED)))
def test_what_json_is_not_stored_is_told_in_words_for_files(text, words, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UnreadableOutput, match=re.escape(words)) as caught:
        read_outputs({"a": ("a.json", "json")}, str(tmp_path), None)
    assert "return" not in str(caught.value) and "function" not in str(caught.value)


def test_a_missing_output_names_the_files_that_the_program_wrote(tmp_path):
    (tmp_path / "model.R").write_text("")
    files = Files(str(tmp_path), ["out/a.csv"])
    files.prepare()
    outputs = {"a": ("out/a.csv", "csv")}
    with pytest.raises(MissingOutput, match=r"did not write out/a\.csv; it wrote no other file there"):
        read_outputs(outputs, str(tmp_path), None, files.present)
    (tmp_path / "A.csv").write_text("")
    (tmp_path / "out" / "b.csv").write_text("")
    (tmp_path / "more").mkdir()
    with pytest.raises(MissingOutput, match=r"; it wrote A\.csv, more/, out/b\.csv$"):
        read_outputs(outputs, str(tmp_path), None, files.present)


def test_the_file_that_a_program_reads_is_no_output(tmp_path):
    files = Files(str(tmp_path), ["params.json"])
    files.prepare()
    with pytest.raises(UnreadableOutput, match="rename one"):
        files.write("./params.json", b"{}")


@pytest.mark.parametrize("text", ["null", '{"a": {"b": {"c": 1}}}', '{"a": 1, "b": [1]}'])
def test_json_that_is_no_table_is_refused_with_the_way_to_keep_it(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UnreadableOutput, match=r"output '?a'?.*format: raw"):
        read_outputs({"a": ("a.json", "json")}, str(tmp_path), None)
