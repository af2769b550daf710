"""Templates of ``--format`` give what Go's text/template gives, as Docker uses it; expected texts are Go's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.cli.render.rows import render_rows, render_values
from orchestrator.cli.render.template import parse
from orchestrator.cli.render.template_run import run
from orchestrator.errors import InputError

VALUE: dict[str, Any] = {
    "Name": "web",
    "Size": 42,
    "Ratio": 0.5,
    "Big": 3.0,
    "Up": True,
    "Down": False,
    "Nothing": None,
    "Empty": "",
    "Tags": ["a", "b", "c"],
    "None": [],
    "Labels": {"com.x": "1", "env": "prod"},
    "Config": {"Env": ["A=1", "B=2"], "Labels": {}, "Mounts": [{"Name": "m", "RW": True}, {"Name": "n", "RW": False}]},
    "Numbers": {"one": 1, "two": 2},
    "Label": lambda key: {"env": "prod"}.get(key, ""),
}


def made(text: str, value: Any = VALUE) -> str:
    return run(parse(text), value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain } text", "plain } text"),
        ("{{.Name}}", "web"),
        ("a {{ .Name }} b", "a web b"),
        ("{{.Size}} {{.Ratio}} {{.Big}} {{.Up}}", "42 0.5 3 true"),
        ("{{.Nothing}}", "<no value>"),
        ("{{.Nothing.More}}", "<no value>"),
        ("{{.Labels.env}} {{.Labels.nope}}", "prod <no value>"),
        ("{{.Tags}} {{.Labels}} {{.None}}", "[a b c] map[com.x:1 env:prod] []"),
        ("{{.Config.Env}}", "[A=1 B=2]"),
        ("{{(index .Config.Mounts 0).Name}}", "m"),
        ("{{$.Name}}{{$}}", None),
        (r"{{.Name}}\t{{.Size}}\n", "web\t42\n"),
        (r'{{join .Tags "\n"}}', "a\nb\nc"),
    ],
)
def test_fields_and_text(text: str, expected: str | None) -> None:
    if expected is None:
        assert made(text).startswith("webmap[")
    else:
        assert made(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a  {{- .Name -}}  b", "awebb"),
        ("a \n{{- 3}} b", "a3 b"),
        ("{{-3}}", "-3"),
        ("{{3 -}}\t\n b", "3b"),
        ("a{{/* a }} comment */}}b", "ab"),
        ("a {{- /* x */ -}} b", "ab"),
        ('{{"}}"}}', "}}"),
        ("{{`raw \\n`}}", "raw \\n"),
        (r'{{"q\"\\\t\x41\u00e9\101"}}', 'q"\\\tAéA'),
        ("{{'a'}} {{'\\n'}}", "97 10"),
        ("{{0x1F}} {{0b11}} {{1_000}} {{1e3}} {{.5}} {{-7}} {{+7}}", "31 3 1000 1000 0.5 -7 7"),
        ("{{true}} {{false}}", "true false"),
        ("{{\n.Name\n}}", "web"),
    ],
)
def test_trimming_comments_and_constants(text: str, expected: str) -> None:
    assert made(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{if .Up}}yes{{end}}", "yes"),
        ("{{if .Down}}yes{{else}}no{{end}}", "no"),
        ("{{if .Down}}a{{else if .Up}}b{{else}}c{{end}}", "b"),
        ("{{if .Down}}a{{else if .Empty}}b{{else if .None}}c{{else}}d{{end}}", "d"),
        ("{{if .Nothing}}a{{end}}{{if .Size}}b{{end}}{{if 0}}c{{end}}{{if 0.0}}d{{end}}", "b"),
        ("{{with .Config}}{{len .Env}}{{end}}", "2"),
        ("{{with .Empty}}a{{else}}{{.Name}}{{end}}", "web"),
        ("{{with .Empty}}a{{else with .Tags}}{{index . 1}}{{end}}", "b"),
        ("{{with $x := .Name}}{{$x}}{{.}}{{end}}", "webweb"),
        ("{{range .Tags}}<{{.}}>{{end}}", "<a><b><c>"),
        ("{{range .None}}x{{else}}none{{end}}", "none"),
        ("{{range .Nothing}}x{{else}}none{{end}}", "none"),
        ("{{range $e := .Tags}}{{$e}}{{end}}", "abc"),
        ("{{range $i, $e := .Tags}}{{if $i}}, {{end}}{{$i}}={{$e}}{{end}}", "0=a, 1=b, 2=c"),
        ("{{range $k, $v := .Labels}}{{$k}}:{{$v}};{{end}}", "com.x:1;env:prod;"),
        ("{{range .Labels}}{{.}}{{end}}", "1prod"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ("{{range .Tags}}{{if eq . \"b\"}}{{continue}}{{end}}{{.}}{{end}}", "ac"),
        ("{{range .Tags}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{end}}", "a"),
        ("{{range .Config.Mounts}}{{.Name}}{{$.Name}} {{end}}", "mweb nweb "),
        ("{{range .Tags}}{{range $.Tags}}{{.}}{{end}} {{end}}", "abc abc abc "),
        ("{{$x := 1}}{{$x}}{{$x = 2}}{{$x}}", "12"),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21"),
        ("{{$x := 0}}{{range .Tags}}{{$x = .}}{{end}}{{$x}}", "c"),
        ("{{$n := .Config}}{{$n.Env}}", "[A=1 B=2]"),
    ],
)
def test_blocks_and_variables(text: str, expected: str) -> None:
    assert made(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{json .Tags}} {{json .Labels}} {{json .Nothing}}", '["a", "b", "c"] {"com.x": "1", "env": "prod"} null'),
        ("{{.Name | upper | printf \"%-5s|\"}}", "WEB  |"),
        ("{{upper .Name}} {{lower \"ABC\"}} {{title \"a word's\"}}", "WEB abc A Word'S"),
        ("{{join .Tags \", \"}} {{split \"a:b\" \":\"}} {{len (split \"a:b\" \":\")}}", "a, b, c [a b] 2"),
        ("[{{pad .Name 1 2}}] [{{pad .Empty 1 2}}]", "[ web  ] []"),
        ("{{truncate \"abcdef\" 3}} {{truncate .Name 9}}", "abc web"),
        ("{{len .Name}} {{len .Tags}} {{len .Labels}}", "3 3 2"),
        ("{{index .Labels \"com.x\"}}{{index .Labels \"nope\"}} {{index .Tags 2}}", "1 c"),
        ("{{index .Config.Mounts 1 \"Name\"}}", "n"),
        ("{{index .Numbers \"three\"}}", "<no value>"),
        ("{{slice .Name 1}} {{slice .Name 0 2}} {{slice .Tags 1 2}}", "eb we [b]"),
        ("{{print 1 2 \"a\" \"b\" 3}}", "1 2ab3"),
        ("{{println .Name 1}}", "web 1\n"),
        ("{{eq .Name \"x\" \"web\"}} {{ne .Size 42}} {{eq .Nothing nil}}", "true false true"),
        ("{{lt 1 2}} {{le 2 2}} {{gt \"b\" \"a\"}} {{ge 1 2}}", "true true true false"),
        ("{{and .Up .Name}} {{and .Down .Nope}}", "web false"),
        ("{{or .Empty .Name}} {{or .Name .Nope}} {{not .Up}}", "web web false"),
        ("{{.Up | and .Name}} {{.Name | or .Empty}}", "true web"),
        ("{{.Label \"env\"}} {{\"env\" | .Label}}", "prod prod"),
        ("{{(.Label \"env\") | len}}", "4"),
        ("{{len .Config.Mounts | eq 2}}", "true"),
    ],
)
def test_functions_and_pipelines(text: str, expected: str) -> None:
    assert made(text) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('"%s=%d" .Name .Size', "web=42"),
        ('"%v %v %v" .Up .Tags .Nothing', "true [a b c] <nil>"),
        ('"%5d|%-5d|%05d|%+d" 42 42 -42 42', "   42|42   |-0042|+42"),
        ('"%.2f|%6.1f|%e" 3.14159 2.55 1000.0', "3.14|   2.5|1.000000e+03"),
        ('"%x %X %o %b %#x %c %x" 255 255 8 5 255 65 "hi"', "ff FF 10 101 0xff A 6869"),
        ('"%q %#v %t%%" "a\\"b\\n" "x" true', '"a\\"b\\n" "x" true%'),
        ('"%.3s|%5s|%-5s|%*d" "abcdef" "ab" "ab" 4 7', "abc|   ab|ab   |   7"),
        ('"%g %v %G" 0.000001 1e21 1e21', "1e-06 1e+21 1E+21"),
        ('"%v %v %v %v %v" 0.0 999999.0 1e6 123456789.5 -0.00012', "0 999999 1e+06 1.234567895e+08 -0.00012"),
    ],
)
def test_printf_formats_as_go_does(arguments: str, expected: str) -> None:
    assert made("{{printf " + arguments + "}}") == expected


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("{{.Name", 1, "this action is not closed"),
        ("a {{/* b }}", 3, "this comment is not closed"),
        ("{{}}", 3, "a value is missing here"),
        ("{{.Name | }}", 11, "a value is missing here"),
        ("{{if}}{{end}}", 5, "a value is missing here"),
        ("{{if .Up}}", 11, "the `if` has no {{end}}"),
        ("{{end}}", 3, "`end` without"),
        ("{{else}}", 3, "`else` without"),
        ("{{if .Up}}{{else}}{{else}}{{end}}", 25, "a second `else`"),
        ("{{range .Tags}}{{else if .Up}}{{end}}", 23, '"if" is not expected after else'),
        ("{{break}}", 3, "`break` outside of a `range`"),
        ("{{$x}}", 3, 'there is no variable "$x"'),
        ("{{$x = 1}}", 8, 'there is no variable "$x"'),
        ("{{if .Up}}{{$x := 1}}{{end}}{{$x}}", 31, 'there is no variable "$x"'),
        ("{{if .Down}}{{$x := 1}}{{else}}{{$x}}{{end}}", 34, 'there is no variable "$x"'),
        ("{{nmae}}", 3, '"nmae" is not a function'),
        ("{{uper .Name}}", 3, 'did you mean "upper"?'),
        ("{{.Nmae}}", 3, "there is no field .Nmae (did you mean .Name?)"),
        ("{{.Config.Foo}}", 3, "there is no field .Foo"),
        ("{{.Name.First}}", 3, ".First is asked of text"),
        ("{{.Name 1}}", 3, ".Name takes no arguments"),
        ("{{1 2}}", 3, "a constant takes no arguments"),
        ("{{.Name | 1}}", 11, "piped into a constant"),
        ("{{(.Name}}", 3, "this parenthesis is not closed"),
        ("{{.Name)}}", 8, '")" is not expected'),
        ('{{"abc}}', 3, "this quoted text is not closed"),
        (r'{{"\z"}}', 3, "cannot be read"),
        ("{{'ab'}}", 3, "cannot be read"),
        ("{{.Name & 1}}", 9, "'&' means nothing here"),
        ("{{len}}", 3, "len takes 1 argument(s), and here are 0"),
        ("{{len 1}}", 3, "len takes text, a list or a mapping, and this is a number"),
        ("{{lower 1}}", 3, "lower takes text"),
        ("{{eq 1 \"a\"}}", 3, "a number is never equal to text"),
        ("{{eq .Tags .Tags}}", 3, "a list and a list cannot be compared"),
        ("{{lt .Up .Up}}", 3, "have no order"),
        ("{{index .Tags 3}}", 3, "there is no element 3 in a list of 3"),
        ("{{index .Tags \"a\"}}", 3, "index takes a whole number"),
        ("{{index .Labels .Tags}}", 3, "does not take such arguments"),
        ("{{slice .Name 2 9}}", 3, "2:9 is no part of a length of 3"),
        ("{{range .Name}}{{end}}", 9, "range goes over a list, a mapping or a number"),
        ("{{printf \"%d\" .Name}}", 3, "%d takes a whole number, and this is text"),
        ("{{printf \"%d\"}}", 3, "too few values"),
        ("{{printf \"a\" 1}}", 3, "more values"),
        ("{{printf \"%y\" 1}}", 3, 'printf knows no "%y"'),
        ("{{printf \"%99999999d\" 1}}", 3, "too wide"),
        ("{{template \"x\"}}", 3, "`template` is not supported"),
        ("{{define \"x\"}}{{end}}", 3, "`define` is not supported"),
        ("{{.Label}}", 3, "does not take such arguments"),
        ("{{" + "(" * 60 + "1" + ")" * 60 + "}}", 54, "more than 50 blocks"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_error_with_its_place(text: str, column: int, said: str) -> None:
    with pytest.raises(InputError) as caught:
        made(text)
    assert said in caught.value.message
    assert caught.value.place == f"--format:1:{column}"


def test_the_place_has_the_line_too() -> None:
    with pytest.raises(InputError) as caught:
        made("{{.Name}}\n  {{nope}}")
    assert caught.value.place == "--format:2:5"


PIECES = st.sampled_from(
    ["{{", "}}", " ", "-", "if", "end", "else", "range", "with", ".Name", ".", "$x", ":=", "=", "|", "(", ")", '"a"', "'",
     '"', "`", "1", ".5", "json", "printf", "index", "/*", "*/", "\\", "\n", ".Tags", "break", ",", "$", "é", "eq", "len"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=25))
@settings(max_examples=600, deadline=None)
def test_any_text_is_a_template_or_one_error(pieces: list[str]) -> None:
    place = "--format:1:1"
    try:
        made("".join(pieces))
    except InputError as error:
        place = error.place
    assert place.startswith("--format:")


ROWS = [
    {"Name": "a", "Driver": "local", "Labels": "x=1", "CreatedAt": "now", "Label": lambda key: "1"},
    {"Name": "longer", "Driver": "local", "Labels": "", "CreatedAt": "then", "Label": lambda key: ""},
]
COLUMNS = {"Driver": "DRIVER", "Name": "VOLUME NAME"}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("table", "DRIVER   VOLUME NAME\nlocal    a\nlocal    longer"),
        ("{{.Name}}", "a\nlonger"),
        ("table {{.Name}}\\t{{.CreatedAt}}", "VOLUME NAME   CREATED AT\na             now\nlonger        then"),
        ("table{{.Name}}", "VOLUME NAME\na\nlonger"),
        ('table {{.Name | upper}}\t{{.Label "com.my-x"}}', "VOLUME NAME   MY X\nA             1\nLONGER"),
        ("table {{len .Name}}\t{{.Driver}}", "11   DRIVER\n1    local\n6    local"),
        ("{{.Name}}: {{.Driver}}", "a: local\nlonger: local"),
    ],
)
def test_the_shapes_of_a_list(shape: str, expected: str) -> None:
    assert render_rows(ROWS, shape, COLUMNS) == expected


def test_json_is_an_object_a_line_without_methods() -> None:
    lines = [json.loads(line) for line in render_rows(ROWS, "json", COLUMNS).split("\n")]
    assert [line["Name"] for line in lines] == ["a", "longer"]
    assert set(lines[0]) == {"Name", "Driver", "Labels", "CreatedAt"}
    assert render_rows([], "json", COLUMNS) == ""
    assert render_rows([], "table", COLUMNS) == "DRIVER   VOLUME NAME"
    assert render_rows([], "table {{.Name}}", COLUMNS) == "VOLUME NAME"


@pytest.mark.parametrize("shape", ["xml", "tabel", "table foo", "Name"])
def test_a_shape_that_is_none_is_one_error(shape: str) -> None:
    with pytest.raises(InputError, match="is no format"):
        render_rows(ROWS, shape, COLUMNS)


def test_the_place_of_an_error_is_that_of_what_was_written() -> None:
    with pytest.raises(InputError) as caught:
        render_rows(ROWS, "table {{.Name}}\\t{{.Nmae}}", COLUMNS)
    assert caught.value.place == "--format:1:20"


def test_nothing_of_a_value_reaches_the_terminal_as_it_is() -> None:
    rows = [{"Name": "a\x1b[2J\u202e"}]
    for shape in ("table", "table {{.Name}}", "{{.Name}}"):
        assert "a\\x1b[2J\\u202e" in render_rows(rows, shape, {"Name": "NAME"})
    assert json.loads(render_rows([{"Name": "\x7f\x1b"}], "json", {})) == {"Name": "\x7f\x1b"}
    assert json.loads(render_rows([{"Name": "\x7f\x9b"}], "{{json .}}", {})) == {"Name": "\x7f\x9b"}


def test_a_narrow_terminal_cuts_lines() -> None:
    assert render_rows(ROWS, "table {{.Name}}\\t{{.CreatedAt}}", COLUMNS, width=10).split("\n")[0] == "VOLUME NA~"


def test_inspect_prints_an_array_a_line_or_a_template_of_each() -> None:
    values: list[dict[str, Any]] = [{"Name": "a", "Labels": None}, {"Name": "b", "Labels": {"k": "v"}}]
    assert json.loads(render_values(values, None)) == values
    assert render_values(values, None).startswith('[\n    {\n        "Name": "a"')
    assert json.loads(render_values(values, "json")) == values
    assert render_values(values, "{{.Name}} {{.Labels.k}}") == "a <no value>\nb v"
