"""The functions of consul-template, one by one."""

from __future__ import annotations

import pytest

from core.template import deps
from core.template.answers import answer
from core.template.cluster_functions import CLUSTER
from core.template.functions import FUNCTIONS
from core.template.list_functions import LISTS
from core.template.number_functions import NUMBERS
from core.template.records import KeyPair
from core.template.render import Environment, load, render
from core.template.serial import to_yaml
from core.template.text_functions import TEXTS
from tests.core.template.template_brain import Answers, error_of, text_of

GOOD = {
    # text
    '{{ "a,b" | split "," }}': "[a b]",
    '{{ "" | split "," | len }}': "0",
    '{{ "ab" | split "" }}': "[a b]",
    '{{ split "," "a,b" | join "-" }}': "a-b",
    '{{ ("a:1,b:2,c" | splitToMap "," ":").b }}': "2",
    '{{ "a:1" | splitToMap "," ":" | toJSON }}': '{"a":"1"}',
    '{{ "xxaxx" | trim "x" }}': "a",
    '{{ "  a " | trimSpace }}|': "a|",
    '{{ "v1.2" | trimPrefix "v" | trimSuffix ".2" }}': "1",
    '{{ "AbC" | toLower }}{{ "AbC" | toUpper }}{{ "it\'s a dog" | toTitle }}': "abcABCIt's A Dog",
    '{{ "straße" | toUpper }}': "STRAßE",
    '{{ "a.b.c" | replaceAll "." "_" }}': "a_b_c",
    '{{ "a\\n\\nb" | indent 2 }}': "  a\n\n  b",
    '{{ "foo" | regexMatch "^fo+$" }}{{ "foo\\n" | regexMatch "^fo+$" }}': "truefalse",
    '{{ "web-01" | regexReplaceAll "([a-z]+)-0*(?P<n>[0-9]+)" "${n}.$1" }}': "1.web",
    '{{ "abc" | regexReplaceAll "(?i)B|z*" "-" }}': "-a-c-",
    '{{ "hi" | base64Encode }} {{ "aGk=" | base64Decode }}': "aGk= hi",
    '{{ "??>" | base64URLEncode }} {{ "Pz8-" | base64URLDecode }}': "Pz8- ??>",
    '{{ "a" | md5sum }}': "0cc175b9c0f1b6a831c399e269772661",
    '{{ "a" | sha256Hex | len }}': "64",
    '{{ hmacSHA256Hex "somemessage" "somekey" }}': (
        "6116e95f2827172aa6ef8b22b883f6a77e966aefc129c6b8228ebd0aac74e98d"
    ),
    # numbers
    "{{ 5 | subtract 2 }} {{ add 1 2 }} {{ add 1.5 2 }} {{ multiply 2 3 }}": "3 3 3.5 6",
    "{{ divide 2 7 }} {{ divide 2 -7 }} {{ divide 2.0 7 }} {{ modulo 4 -7 }}": "3 -3 3.5 -3",
    "{{ minimum 2 3 }} {{ maximum 2 3.5 }} {{ divide 0.0 1 }}": "2 3.5 +Inf",
    "{{ add 9223372036854775807 1 }}": "-9223372036854775808",
    '{{ parseInt "-42" }} {{ parseUint "7" }} {{ parseFloat "1.50" }} {{ parseBool "T" }}': "-42 7 1.5 true",
    '{{ parseInt "" }} {{ parseFloat "" }} {{ parseBool "" }} {{ parseJSON "" }}': "0 0 false map[]",
    "{{ range loop 3 }}{{ . }}{{ end }} {{ range loop 2 4 }}{{ . }}{{ end }}": "012 23",
    '{{ range $i, $n := loop "2" }}{{ $i }}{{ $n }}{{ end }}': "0011",
    # serial
    '{{ "{\\"a\\": [1, true, null, \\"x\\"]}" | parseJSON }}': "map[a:[1 true <nil> x]]",
    '{{ (parseJSON "{\\"n\\": 1234567}").n }}': "1.234567e+06",
    '{{ "a: [1, yes, 2020-01-01]\\n" | parseYAML }}': "map[a:[1 true 2020-01-01]]",
    '{{ parseJSON "{\\"b\\": 1, \\"a\\": \\"<&\\"}" | toJSON }}': '{"a":"\\u003c\\u0026","b":1}',
    '{{ parseJSON "{\\"a\\": \\"<\\\\\\\\u003c\\"}" | toUnescapedJSON }}': '{"a":"<\\\\u003c"}',
    '{{ parseJSON "{\\"a\\": [1], \\"b\\": {}}" | toJSONPretty }}': '{\n  "a": [\n    1\n  ],\n  "b": {}\n}',
    '{{ parseJSON "{\\"a\\": [1, 1.5, \\"1\\"]}" | toYAML }}': 'a:\n- 1\n- 1.5\n- "1"',
    '{{ "x = 1" | toYAML }}': "x = 1",
    '{{ parseYAML "b: {c: {d: x}}\\na: 1\\nt: [{q: 1.0}, {}]" | toTOML }}': (
        'a = 1\n\n[b]\n  [b.c]\n    d = "x"\n\n[[t]]\n  q = 1.0\n\n[[t]]'
    ),
    # lists and maps
    '{{ tree "app" | explode | toJSON }}': '{"a":"1","b":{"c":"2","d":{"e":"3"}}}',
    '{{ range $k, $v := tree "app" | byKey }}{{ $k }}:{{ range $n, $p := $v }}{{ $n }}={{ $p.Value }},'
    "{{ end }}{{ end }}": "b:c=2,d/e=3,",
    '{{ (explodeMap (parseJSON "{\\"a/b\\": 1}")).a.b }}': "1",
    '{{ $a := parseJSON "{\\"x\\": {\\"y\\": 1}, \\"k\\": \\"a\\"}" }}'
    '{{ $b := parseJSON "{\\"x\\": {\\"z\\": 2}, \\"k\\": \\"b\\"}" }}'
    "{{ $b | mergeMap $a | toJSON }}{{ ($b | mergeMapWithOverride $a).k }}": ('{"k":"a","x":{"y":1,"z":2}}b'),
    '{{ range $tag, $s := service "web" | byTag }}{{ $tag }}{{ len $s }}{{ end }}': "a2t11t21",
    '{{ range $p, $s := service "web" | byPort }}{{ $p }}{{ (index $s 0).Node }}{{ end }}': "8001n18002n2",
    '{{ range $k, $s := service "web" | byMeta "zone,rank|int,none" }}{{ $k }} {{ end }}': (
        "eu_west_00001__no_none_ eu_west_00002__no_none_ "
    ),
    '{{ $l := split "," "a,b" }}{{ in $l "a" }}{{ contains "c" $l }}{{ in "abc" "bc" }}{{ in (loop 3) 2 }}': (
        "truefalsetruetrue"
    ),
    '{{ $l := parseJSON "[\\"a\\",\\"b\\"]" }}{{ $s := service "web" }}{{ with index $s 0 }}'
    "{{ .Tags | containsAll $l }}{{ .Tags | containsAny $l }}{{ .Tags | containsNone $l }}"
    '{{ .Tags | containsNotAll $l }}{{ .Tags.Contains "t1" }}{{ end }}': "falsetruefalsetruetrue",
    # the notebook
    '{{ scratch.Key "a" }}{{ scratch.Set "a" 1 }}{{ scratch.SetX "a" 2 }}{{ scratch.Get "a" }}': "false1",
    '{{ scratch.MapSet "m" "b" 1 }}{{ scratch.MapSetX "m" "b" 3 }}{{ scratch.MapSet "m" "a" 2 }}'
    '{{ scratch.MapValues "m" }}{{ scratch.MapValues "none" }}': "[2 1][]",
    # surroundings
    '{{ env "HOME" }}{{ env "NONE" }}{{ envOrDefault "NONE" "d" }}{{ mustEnv "HOME" }}': "/rootd/root",
    "{{ timestamp }}": "2023-11-14T22:13:20Z",
    '{{ timestamp "unix" }} {{ timestamp "Mon Jan _2 15:04:05.000 MST 2006 -0700" }}': (
        "1700000000 Tue Nov 14 22:13:20.123 UTC 2023 +0000"
    ),
    '{{ timestamp "Monday, 02-January-06 03:04:05PM Z07:00 002 .99 1/2 3:4:5" }}': (
        "Tuesday, 14-November-23 10:13:20PM Z 318 .12 11/14 10:13:20"
    ),
    '{{ define "x" }}<{{ . }}>{{ end }}{{ executeTemplate "x" "y" | toUpper }}{{ executeTemplate "x" }}': (
        "<Y><<no value>>"
    ),
    '{{ spew_sdump 1 }}{{ spew_sprintf "%v" 2 }}{{ spew_dump 3 }}': "(int) 1\n2",
    '{{ file "/etc/motd" }}': "hello\n",
}

BAD = {
    '{{ "x" | parseInt }}': 'error calling parseInt: parseInt: strconv.ParseInt: parsing "x": invalid syntax',
    '{{ "9999999999999999999" | parseInt }}': "out of range",
    '{{ "-1" | parseUint }}': "invalid syntax",
    '{{ "1_0" | parseFloat }}': "parseFloat",
    '{{ "yes" | parseBool }}': "parseBool",
    '{{ "{" | parseJSON }}': "unexpected end of JSON input (line 1, column 2)",
    '{{ "[1] x" | parseJSON }}': "after top-level value",
    '{{ "NaN" | parseJSON }}': "invalid character",
    '{{ "a: [" | parseYAML }}': "yaml: ",
    '{{ "a" | base64Decode }}': "illegal base64 data at input byte 0",
    '{{ "aGk-" | base64Decode }}': "illegal base64 data at input byte 3",
    '{{ "x" | regexReplaceAll "(" "" }}': "missing closing )",
    '{{ "x" | regexMatch "a(?=b)" }}': "invalid or unsupported Perl syntax",
    '{{ "x" | indent -1 }}': "positive integer",
    '{{ add "a" 1 }}': 'add: unknown type for "a" (string)',
    "{{ divide 0 1 }}": "integer divide by zero",
    "{{ modulo 1.5 2 }}": "modulo: unknown type for 1.5 (float64)",
    "{{ loop }}": "expected 1 or 2, but got 0",
    "{{ loop 1.5 }}": "bad argument type: float64",
    '{{ scratch.Set "a" 1 }}{{ scratch.MapSet "a" "b" 1 }}': '"a" is not a map',
    '{{ explodeMap (parseJSON "{\\"a\\": 1, \\"a/b\\": 2}") }}': (
        'not a map: "a/b": "a" already has value "1"'
    ),
    "{{ byTag 1 }}": "byTag: wrong argument type int",
    '{{ explode (split "," "a") }}': "wants the pairs of ls or tree",
    '{{ mustEnv "NONE" }}': "required environment variable NONE is empty",
    '{{ service "web|sick" }}': 'invalid filter: "sick"',
    '{{ service "a b" }}': 'health.service: invalid format: "a b"',
    '{{ nodes "x" }}': 'catalog.nodes: invalid format: "x"',
    '{{ secret "x" }}': "vault is not supported",
    '{{ nomadService "x" }}': "nomad is not supported",
    "{{ caRoots }}": "mesh is not supported",
    '{{ plugin "ls" }}': "no programs may be run here",
    '{{ writeToFile "/x" "" "" "0644" "c" }}': "no files may be written here",
    '{{ sockaddr "GetPrivateIP" }}': "not known here",
    '{{ toTOML "x" }}': "only maps can be written as TOML",
    '{{ executeTemplate "none" }}': 'template "none" not defined',
    "{{ join }}": "wrong number of args for join: want 2 got 0",
    '{{ split 1 "a" }}': "expected string; found 1",
    '{{ (service "web").Name }}': "can't evaluate field Name in type []*dependency.HealthService",
    '{{ with index (service "web") 0 }}{{ .GO_TYPE }}{{ end }}': "can't evaluate field GO_TYPE",
}


@pytest.mark.parametrize("template", GOOD)
def test_function(template: str) -> None:
    assert text_of(template, variables={"HOME": "/root"}) == GOOD[template]


@pytest.mark.parametrize("template", BAD)
def test_function_refuses(template: str) -> None:
    assert BAD[template] in error_of(template)


def test_every_function_is_tried() -> None:
    tried = " ".join([*GOOD, *BAD])
    untried = {name for name in {**TEXTS, **NUMBERS, **LISTS} if name not in tried}
    assert untried <= {"toUnescapedJSONPretty"}
    assert set(FUNCTIONS) == {*CLUSTER, *TEXTS, *NUMBERS, *LISTS}


def test_denied_function() -> None:
    assert "function is disabled" in error_of('{{ env "HOME" }}', denied=frozenset(["env"]))


def test_doors() -> None:
    written: list[tuple[str, ...]] = []
    text = text_of(
        '{{ plugin "p" " a " "" "b" }}{{ "body" | writeToFile "/f" "u" "g" "0600" "append,newline" }}'
        '{{ sockaddr "GetPrivateIP" }}',
        run_plugin=lambda name, args: f"{name}{args}\n",
        write_file=lambda *given: written.append(given),
        socket_address=lambda pipeline: pipeline,
    )
    assert text == "p['a', 'b']{{ GetPrivateIP }}"
    assert written == [("/f", "u", "g", "0600", "append,newline", "body")]


def test_files_are_not_written_by_an_incomplete_pass() -> None:
    from tests.core.template.template_brain import once

    written: list[tuple[str, ...]] = []
    rendered = once(
        '{{ key "unknown" | writeToFile "/f" "" "" "0600" }}', write_file=lambda *given: written.append(given)
    )
    assert not rendered.complete and not written


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("3", '"3"'),
        ("x", "x"),
        ("", '""'),
        ("yes", '"yes"'),
        ("Y", '"Y"'),
        ("1.5e3", '"1.5e3"'),
        ("0x1f", '"0x1f"'),
        ("1_000", '"1_000"'),
        ("12:30:45", '"12:30:45"'),
        ("2001-01-01", '"2001-01-01"'),
        ("-inf", "-inf"),
        ("-.inf", '"-.inf"'),
        ("1.2.3", "1.2.3"),
        ("10.0.0.1", "10.0.0.1"),
        ("a: b", "'a: b'"),
        ("#c", "'#c'"),
        (" lead", "' lead'"),
        ("-", "'-'"),
        ("a\tb", '"a\\tb"'),
        ("two\nlines", "|-\n  two\n  lines"),
        ("two\nlines\n", "|\n  two\n  lines"),
    ],
)
def test_yaml_quotes_as_go_does(text: str, shown: str) -> None:
    assert to_yaml({"k": text}) == f"k: {shown}"


def test_yaml_of_a_tree() -> None:
    tree = {
        "a10": 1.0,
        "a2": -0.0,
        "y": [[1.0, []], {"z": {}}],
        "B": "word " * 17 + "end",
        "v1.10": None,
        "v1.9": True,
        "a02": 1234567.0,
    }
    assert to_yaml(tree) == (
        "B: word word word word word word word word word word word word word word word word\n  word end\n"
        'a2: -0\na02: 1.234567e+06\na10: 1\nv1.9: true\nv1.10: null\n"y":\n- - 1\n  - []\n- z: {}'
    )


def test_keys_that_are_not_there() -> None:
    template = load(
        "t", "{{ $d := key `there` | parseJSON }}{{ $d.b }}|{{ if $d.b }}x{{ end }}{{ range $d.b }}y{{ end }}"
    )
    answers = Answers({deps.key("there"): KeyPair(Value='{"a": 1}')})
    assert render(template, answers, Environment()).text == "<no value>|"
    error = render(load("t", "{{ (key `there` | parseJSON).b.c }}"), answers, Environment()).error
    assert error is not None and error.reason == "nil pointer evaluating interface {}.c"


def test_a_node_that_is_not_there() -> None:
    answers = Answers({deps.node("gone"): answer(deps.node("gone"), None)})
    text = "{{ with node `gone` }}{{ len .Services }}{{ end }} {{ node `gone` }}"
    assert render(load("t", text), answers, Environment()).text == "0 {<nil> []}"
