"""Cluster data in templates: what is asked for, what is missing, what the records show."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest

from core.template import deps
from core.template.answers import answer, request
from core.template.records import CatalogNode, CatalogSnippet, CatalogSnippets, HealthServices
from core.template.render import Environment, load, render
from core.template.values import Tags
from tests.core.template.template_brain import KNOWN, Answers, error_of, once, text_of, web

HOSTS = """{{range services}}# {{.Name}}{{range service .Name "any"}}
{{.Address}}    {{.Node}}{{end}}

{{end}}"""


def test_hosts_example() -> None:
    assert text_of(HOSTS) == ("# db\n\n# web\n10.0.0.1    n1\n10.0.0.2    n2\n10.0.0.3    n3\n\n")


def test_a_pass_tells_what_it_used_and_misses() -> None:
    brain = Answers()
    template = load("hosts.ctmpl", HOSTS)
    first = render(template, brain, Environment())
    assert first.missing == first.used == (deps.ServicesDep(),)
    brain[deps.ServicesDep()] = CatalogSnippets([CatalogSnippet(Name="web", Tags=Tags())])
    second = render(template, brain, Environment())
    assert second.missing == (deps.ServiceDep("web", filters=("any",)),)
    assert second.used == (deps.ServicesDep(), *second.missing)
    brain[second.missing[0]] = HealthServices()
    assert render(template, brain, Environment()).complete


@pytest.mark.parametrize(
    ("template", "text", "missing"),
    [
        ('{{ key "there" }}', "value", ""),
        ('{{ key "/there" }}', "value", ""),
        ('{{ key "gone" }}', "", "key(gone)"),
        ('{{ key "unknown@dc2" }}', "", "key(unknown@dc2)"),
        ('{{ key "" }}', "", ""),
        ('{{ keyExists "there" }}{{ keyExists "gone" }}', "truefalse", ""),
        ('{{ keyExists "unknown" }}', "false", "key(unknown)"),
        ('{{ keyOrDefault "gone" "d" }}{{ keyOrDefault "empty" "d" }}', "dd", ""),
        ('{{ keyOrDefault "there" "d" }}', "value", ""),
        ('{{ keyOrDefault "unknown" "d" }}', "d", "key(unknown)"),
        ('{{ with keyExistsGet "there" }}{{ .Exists }}{{ .Value }}{{ end }}', "truevalue", ""),
        ('{{ with keyExistsGet "gone" }}{{ .Exists }}{{ .Path }}{{ end }}', "falsegone", ""),
        ('{{ range ls "app" }}{{ .Key }}={{ .Value }} {{ end }}', "a=1 ", ""),
        ('{{ range tree "app" }}{{ .Key }} {{ end }}', "a b/c b/d/e ", ""),
        ('{{ range ls "none" }}x{{ else }}-{{ end }}', "-", ""),
        ('{{ range safeLs "none" }}x{{ end }}', "", "tree(none)"),
        ('{{ range safeTree "none" }}x{{ end }}', "", "tree(none)"),
        ('{{ range safeTree "app" }}{{ .Value }}{{ end }}', "123", ""),
        ('{{ file "/etc/gone" }}', "", "file(/etc/gone)"),
        ('{{ range service "web" }}{{ .Port }},{{ end }}', "8001,8002,", ""),
        ('{{ range service "web" "any" }}{{ .Status }},{{ end }}', "passing,passing,critical,", ""),
        ('{{ service "tag.web@dc1~n1|warning,critical" }}', "[]", "service(tag.web@dc1~n1|critical,warning)"),
        ('{{ connect "web" }}', "[]", "connect(web)"),
        ('{{ node "n1@dc2" }}', "<no value>", "node(n1@dc2)"),
        ('{{ nodes "@dc2~n1" }}', "[]", "nodes(@dc2~n1)"),
        ("{{ datacenters }}", "[]", "datacenters()"),
        ('{{ services "?ns=x@dc2" }}', "[]", "services(?ns=x@dc2)"),
    ],
)  # fmt: skip
def test_data_function(template: str, text: str, missing: str) -> None:
    rendered = once(template)
    assert rendered.error is None
    assert rendered.text == text
    assert " ".join(map(str, rendered.missing)) == missing


def test_an_error_while_something_is_missing_is_not_yet_one() -> None:
    rendered = once('{{ (index (service "unknown") 0).Address }}')
    assert rendered.missing and rendered.error is not None and not rendered.complete


def test_error_on_missing_key() -> None:
    text = '{{ range service "web" }}{{ .NodeMeta.none }}{{ end }}'
    assert text_of(text) == ""  # a map of strings has an empty one for every key
    assert error_of(text, error_on_missing_key=True) == 'map has no entry for key "none"'
    assert text_of('{{ range service "web" }}[{{ index .NodeMeta "none" }}]{{ end }}') == "[][]"


@pytest.mark.parametrize(
    ("dependency", "path", "parameters"),
    [
        (deps.key("a b/c@dc2"), "/v1/kv/a%20b/c", [("dc", "dc2")]),
        (deps.prefix("a?ns=x"), "/v1/kv/a", [("recurse", ""), ("ns", "x")]),
        (
            deps.service("t.web@d~_agent"),
            "/v1/health/service/web",
            [("dc", "d"), ("near", "_agent"), ("tag", "t"), ("passing", "1")],
        ),
        (deps.service("web|any", connect=True), "/v1/health/connect/web", []),
        (deps.services("@d"), "/v1/catalog/services", [("dc", "d")]),
        (deps.node(""), "/v1/catalog/node/own", []),
        (deps.nodes("~n"), "/v1/catalog/nodes", [("near", "n")]),
        (deps.DatacentersDep(), "/v1/catalog/datacenters", []),
    ],
)
def test_requests(dependency: deps.Dependency, path: str, parameters: list[tuple[str, str]]) -> None:
    assert request(dependency, "own") == (path, parameters)


def _entry(node: str, service_id: str, *checks: tuple[str, str], address: str = "") -> dict[str, Any]:
    return {
        "Node": {"ID": "x", "Node": node, "Address": "10.0.0.9", "Meta": {"k": "v"}, "TaggedAddresses": None},
        "Service": {"ID": service_id, "Service": "web", "Tags": ["b", "a"], "Address": address, "Port": 80},
        "Checks": [{"CheckID": check, "Status": status} for check, status in checks],
    }


def test_service_answer() -> None:
    body = [
        _entry("n2", "w2", ("c", "passing")),
        _entry("n1", "w1", ("c", "warning"), ("d", "critical"), address="10.1.1.1"),
        _entry("n1", "w0", ("_service_maintenance:w0", "critical")),
    ]
    found = answer(deps.service("web|any"), body)
    assert [(each.ID, each.Status) for each in found] == [
        ("w0", "maintenance"),
        ("w1", "critical"),
        ("w2", "passing"),
    ]
    assert [each.Address for each in found] == ["10.0.0.9", "10.1.1.1", "10.0.0.9"]
    assert list(found[0].Tags) == ["a", "b"] and found[0].NodeMeta == {"k": "v"}
    assert [each.ID for each in answer(deps.service("web~n|any"), body)] == ["w2", "w1", "w0"]
    assert [each.ID for each in answer(deps.service("web|critical"), body)] == ["w1"]


def test_other_answers() -> None:
    raw = {"Key": "app/b/c", "Value": base64.b64encode(b"\xffx").decode(), "ModifyIndex": 7, "Flags": 3}
    (pair,) = answer(deps.prefix("app"), [raw])
    assert (pair.Key, pair.Path, pair.ModifyIndex) == ("b/c", "app/b/c", 7)
    assert pair.Value.encode("utf-8", "surrogateescape") == b"\xffx"
    assert answer(deps.key("app/b/c"), [raw]).Key == "app/b/c"
    assert answer(deps.key("gone"), None) is None
    assert [each.Name for each in answer(deps.services(""), {"b": [], "a": ["y", "x"]})] == ["a", "b"]
    node = {"ID": "1", "Node": "n", "Address": "10.0.0.1", "Datacenter": "dc1"}
    service = {"ID": "w", "Service": "web", "Tags": None, "Port": 1, "Address": ""}
    found = answer(deps.node("n"), {"Node": node, "Services": {"w": service}})
    assert found.Node.Address == "10.0.0.1" and found.Services[0].Service == "web"
    assert answer(deps.node("n"), None) == CatalogNode()
    assert [each.Node for each in answer(deps.nodes(""), [node, {**node, "Node": "a"}])] == ["a", "n"]
    assert answer(deps.DatacentersDep(), ["dc1"]) == ["dc1"]


def test_a_reply_of_another_shape_is_named() -> None:
    with pytest.raises(ValueError, match=r"service\(web\): the reply has another shape"):
        answer(deps.service("web"), [{"Node": {}}])


JINJA = {
    "{% for s in service('web') %}{{ s.Node }}:{{ s.Port }} {% endfor %}": "n1:8001 n2:8002 ",
    "{{ key('there') | toUpper }}\n": "VALUE\n",
    "{{ 'a,b' | split(',') | join('+') }}": "a+b",
    "{{ scratch.Set('a', 2) }}{{ scratch.Get('a') }}": "2",
    "{{ tree('app') | explode | toJSON }}": '{"a":"1","b":{"c":"2","d":{"e":"3"}}}',
    "{{ service('web')[0].ServiceMeta.zone }}{{ none.x is defined }}": "eu westFalse",
}


@pytest.mark.parametrize("template", JINJA)
def test_jinja(template: str) -> None:
    assert text_of(template, name="x.j2") == JINJA[template]


@pytest.mark.parametrize(
    ("template", "line", "reason"),
    [
        ("a\n{{ secret('x') }}", 2, "error calling secret: vault is not supported"),
        ("\n\n{{ foo.bar }}", 3, "'foo' is undefined"),
        ("{{ 1 / 0 }}", 1, "division by zero"),
        ("{{ service(1) }}", 1, "expected string; got int"),
        ("{{ key() }}", 1, "wrong number of args for key: want 1 got 0"),
        ("{{ ''.__class__.__mro__ }}", 1, "unsafe"),
    ],
)
def test_jinja_errors_name_the_line(template: str, line: int, reason: str) -> None:
    error = once(template, name="x.j2").error
    assert error is not None
    assert (error.name, error.line) == ("x.j2", line)
    assert reason in str(error)


def test_jinja_misses_what_go_templates_miss() -> None:
    assert once("{{ key('unknown') }}{{ service('x') }}", name="x.j2").missing == (
        deps.KeyDep("unknown"),
        deps.ServiceDep("x"),
    )


def test_a_thousand_services_render_fast() -> None:
    brain = Answers({**KNOWN, deps.service("web"): HealthServices(web(number) for number in range(1000))})
    template = load(
        "t",
        '{{ range service "web" }}{{ if .Tags.Contains "a" }}{{ .Address }}:{{ .Port }} {{ end }}{{ end }}',
    )
    took = []
    for _ in range(5):
        start = time.process_time()
        assert render(template, brain, Environment()).complete
        took.append(time.process_time() - start)
    assert min(took) < 0.05
