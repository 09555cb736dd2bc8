"""Whatever text comes, a template is read or refused, and rendering it ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.template import gofmt
from core.template.errors import TemplateError
from core.template.parse import MAX_DEPTH
from core.template.render import Environment, load, render
from core.template.strings import unquote
from tests.core.template.template_brain import KNOWN, error_of, once, text_of

PIECES = st.sampled_from(
    [
        *("{{", "}}", "{{-", "-}}", " ", "\n", "if", "range", "with", "end", "else", "define", "block"),
        *("template", "break", "continue", "$x", "$", ":=", "=", ",", "|", "(", ")", ".", ".a", '"s"'),
        *("`r`", "'c'", "1", "-1", "1.5e3", "0x1F", "nil", "true", "len", "printf", "eq", "key", "service"),
        *("index", "/* c */", "{{end}}", "{{range loop 3}}", "{{if 1}}", '{{define "d"}}', "é", '"%d"'),
        *('{{template "d" .}}', "..", "$x.a", "\\"),
    ]
)  # fmt: skip


@given(st.text().filter(lambda text: "{{" not in text))
def test_text_without_actions_is_itself(text: str) -> None:
    assert text_of(text) == text


@given(st.lists(PIECES, max_size=30).map(" ".join) | st.lists(PIECES, max_size=30).map("".join) | st.text())
def test_any_text_is_a_template_or_an_error(text: str) -> None:
    try:
        template = load("t", text)
    except TemplateError as error:
        assert str(error).startswith(f"template: t:{error.line}")
        return
    render(template, KNOWN, Environment())


@given(st.text(alphabet="{}% #a\n'()|.", max_size=40))
def test_any_text_is_a_jinja_template_or_an_error(text: str) -> None:
    try:
        template = load("t.j2", text)
    except TemplateError as error:
        assert error.line >= 1
        return
    render(template, KNOWN, Environment())


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_quoted_strings_come_back(text: str) -> None:
    assert unquote(gofmt.quoted(text)) == text
    assert unquote(gofmt.quoted(text, ascii_only=True)) == text
    assert text_of(f"{{{{ {gofmt.quoted(text)} }}}}") == text


@given(
    st.text(alphabet="%dvsqxXTf+-# 0123.*[]a", max_size=12), st.lists(st.integers() | st.text() | st.floats())
)
def test_printf_takes_any_format(form: str, values: list[int | str | float | None]) -> None:
    assert isinstance(gofmt.sprintf(form, list(values)), str)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_shortest_floats_are_exact(number: float) -> None:
    assert float(gofmt.shortest(abs(number))) == abs(number)


@pytest.mark.parametrize("opening", ["(", "{{if 1}}", "{{if 1}}{{else if 1}}", "{{range loop 1}}"])
def test_deep_nesting_is_refused(opening: str) -> None:
    text = opening * 5000
    with pytest.raises(TemplateError):
        load("t", f"{{{{ {text}" if opening == "(" else text)


def test_what_may_be_read_can_be_carried_out() -> None:
    depth = MAX_DEPTH
    inner = "{{ if 1 }}" * (depth - 1)
    assert text_of(inner + "x" + "{{ end }}" * (depth - 1)) == "x"
    assert text_of("{{ " + "(" * depth + "1" + ")" * depth + " }}") == "1"


def test_long_chains() -> None:
    chain = "{{ if 0 }}" + "{{ else if 0 }}" * 149 + "{{ else if 1 }}x{{ end }}"
    assert text_of(chain) == "x"
    with pytest.raises(TemplateError, match="in a row"):
        load("t", chain.replace("{{ if 0 }}", "{{ if 0 }}{{ else if 0 }}"))


def test_templates_that_call_themselves_end() -> None:
    inside = "{{if 1}}" * 30 + '{{template "r" (((1)))}}' + "{{end}}" * 30
    deep = f'{{{{define "r"}}}}{inside}{{{{end}}}}{{{{template "r"}}}}'
    assert "template depth" in error_of('{{define "r"}}{{template "r"}}{{end}}{{template "r"}}')
    assert "too deeply" in error_of(deep) or "template depth" in error_of(deep)
    assert "template depth" in error_of('{{ executeTemplate "t" }}')


def test_long_ranges_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.template.compile.MAX_STEPS", 1000)
    rendered = once("{{ range loop 1000000000000 }}{{ end }}")
    assert rendered.error is not None and "rounds of range" in rendered.error.reason


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("a\n  é{{ .a\n | nosuch }}", 'template: f.tpl:3: function "nosuch" not defined'),
        ("\n {{ \x01 }}", "template: f.tpl:2: unrecognized character in action: U+0001"),
        ("\n {{ a@b }}", "template: f.tpl:2: bad character U+0040 '@'"),
        ("{{ (1 }}", "template: f.tpl:1: unclosed left paren"),
        ("{{ 1) }}", "template: f.tpl:1: unexpected right paren"),
        ("{{ if 1 }}\n{{ $x", 'template: f.tpl:2: undefined variable "$x"'),
        ("{{ 1\n", "template: f.tpl:2: unclosed action started at f.tpl:1"),
        ("{{ /* c */ }}", 'template: f.tpl:1: unexpected "/" in command'),
        ("{{/* c */ x}}", "template: f.tpl:1: comment ends before closing delimiter"),
        ("{{ 1 : 1 }}", "template: f.tpl:1: expected :="),
        ("{{ ( ) }}", "template: f.tpl:1: missing value for parenthesized pipeline"),
        ("{{ define x }}{{ end }}", 'template: f.tpl:1: unexpected "x" in define clause'),
        ("{{ if 1 }}{{ define \"x\" }}{{ end }}{{ end }}",
         "template: f.tpl:1: unexpected <define> in command"),
        ("{{ \"a\".b }}", 'template: f.tpl:1: unexpected . after term "\\"a\\""'),
        ("{{ '\\q' }}", "template: f.tpl:1: invalid syntax"),
        ("{{ 99999999999999999999 }}", 'template: f.tpl:1: integer overflow: "99999999999999999999"'),
    ],
)  # fmt: skip
def test_parse_errors(template: str, error: str) -> None:
    with pytest.raises(TemplateError) as caught:
        load("f.tpl", template)
    assert str(caught.value) == error


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("é{{ 1 | len }}", 'template: t:1:9: executing "t" at <len>: error calling len: len of type int'),
        ('\n {{ key 1 }}', 'template: t:2:8: executing "t" at <1>: expected string; found 1'),
        ('{{ define "x" }}\n{{ .a.b }}{{ end }}{{ template "x" 1 }}',
         'template: t:2:5: executing "x" at <.a.b>: can\'t evaluate field a in type int'),
        ("{{ 18446744073709551615 }}",
         'template: t:1:3: executing "t" at <18446744073709551615>: 18446744073709551615 overflows int'),
        ("{{ (1) 2 }}", 'template: t:1:3: executing "t" at <(1) 2>: can\'t give argument to non-function 1'),
        ('{{ range "abc" }}{{ end }}',
         'template: t:1:9: executing "t" at <"abc">: range can\'t iterate over abc'),
    ],
)  # fmt: skip
def test_execution_errors(template: str, error: str) -> None:
    assert str(once(template).error) == error
