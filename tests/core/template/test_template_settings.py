"""The configuration of a runner, as consul-template reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config.formats import Source, read
from core.errors import ConfigError
from core.template.plan import Safety, Wait
from core.template.settings import Retry, Settings, of, template_flag
from core.template.settings_keys import Program, Variables, decode

HCL = """
consul {
  address = "127.0.0.1:8500"
  auth { enabled = true  username = "u"  password = "p" }
  retry { attempts = 5  backoff = "100ms" }
  ssl { enabled = true  verify = false  ca_cert = "/ca.pem" }
}
reload_signal = "SIGUSR1"
kill_signal = "TERM"
max_stale = "10m"
log_level = "warn"
wait { min = "5s"  max = "10s" }
deduplicate { enabled = true }
exec {
  command = ["/usr/bin/app", "-x"]
  splay = "5s"
  env { pristine = true  custom = ["A=b"]  denylist = ["VAULT_*"] }
  reload_signal = ""
  kill_timeout = "2s"
}
template {
  source = "/a.ctmpl"
  destination = "/a"
  command = "restart service foo"
  command_timeout = "60s"
  error_on_missing_key = true
  perms = 0600
  backup = true
  left_delimiter = "[["
  right_delimiter = "]]"
  function_denylist = ["plugin"]
  wait { min = "2s" }
}
template {
  contents = "{{ key `x` }}"
  destination = "/b"
  perms = "0640"
  exec { command = ["a", "b"]  timeout = "3s" }
  check = "nginx -t -c {tmp}"
  min_instances = 2
  on_empty = "keep"
  restore_on_failure = false
}
"""


def _settings(text: str, kind: str = "hcl") -> Settings:
    return of([decode(read(Source("f", kind, text)), "f")])


def test_configuration_of_consul_template() -> None:
    settings = _settings(HCL)
    first, second = settings.outputs
    assert settings.agent == {
        "http-addr": "https://127.0.0.1:8500",
        "ca-file": "/ca.pem",
        "HTTP_AUTH": "u:p",
        "HTTP_SSL_VERIFY": "false",
    }
    assert settings.retry == Retry(5, 0.1, 60.0, limit_set=True)
    assert (settings.reload, settings.kill, settings.max_stale) == ("SIGUSR1", "SIGTERM", 600.0)
    assert settings.log_level == "WARN" and "deduplicate" in settings.warnings[0]
    assert first.command == Program(line="restart service foo", timeout=60.0)
    assert (first.left, first.right, first.perms, first.backup) == ("[[", "]]", 0o600, True)
    assert first.wait == Wait(2, 8) and first.denied == {"plugin"} and first.error_on_missing_key
    assert second.wait == Wait(5, 10) and second.perms == 0o640 and second.name == "(dynamic)"
    assert second.command == Program(words=("a", "b"), timeout=3.0)
    assert second.safety == Safety(2, True) and not second.restore
    child = settings.child
    assert child is not None
    assert child.program.words == ("/usr/bin/app", "-x") and child.program.timeout == 0.0
    assert (child.splay, child.reload, child.kill, child.kill_timeout) == (5.0, "", "SIGINT", 2.0)
    assert child.program.variables == Variables(True, ("A=b",), (), ("VAULT_*",))


def test_formats_agree() -> None:
    tree: dict[str, Any] = {"template": [{"source": "a", "destination": "b"}], "max_stale": "1s"}
    toml = 'max_stale = "1s"\n[[template]]\nsource = "a"\ndestination = "b"\n'
    yaml = "max_stale: 1s\ntemplate:\n- source: a\n  destination: b\n"
    hcl = 'max_stale = "1s"\ntemplate { source = "a" destination = "b" }'
    found = [
        _settings(json.dumps(tree), "json"),
        _settings(toml, "toml"),
        _settings(yaml, "yaml"),
        _settings(hcl),
    ]
    assert all(each == found[0] for each in found) and found[0].outputs[0].source == "a"


def test_later_sources_win_and_templates_add_up() -> None:
    first = decode({"wait": "1s:20s", "template": {"source": "a"}, "consul": {"token": "t"}}, "f")
    second = decode({"wait": {"min": "3s"}, "template": [{"source": "b"}], "consul": {"address": "h"}}, "g")
    settings = of([first, second])
    assert [output.source for output in settings.outputs] == ["a", "b"]
    assert settings.outputs[0].wait == Wait(3, 20)
    assert settings.agent == {"http-addr": "h", "token": "t"}


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ({"tmplate": {}}, "there is no key tmplate; there are block_query_wait"),
        ({"template": {"sorce": "x"}}, "there is no key template.sorce"),
        ({"template": {"destination": "x"}}, "needs a source or contents"),
        ({"template": {"source": "x", "contents": "y"}}, "and not both"),
        ({"max_stale": "2"}, "max_stale"),
        ({"max_stale": 5}, "a duration with a unit"),
        ({"kill_signal": "SIGFOO"}, 'there is no signal "SIGFOO"'),
        ({"template": {"source": "x", "perms": "9"}}, "octal"),
        ({"template": {"source": "x", "on_empty": "no"}}, '"write" or "keep"'),
        ({"once": 1}, "true or false"),
        ({"consul": "x"}, "consul must be a block"),
        ({"vault": {}}, "vault is not supported"),
        ({"wait": "5s:1s"}, "min must be less than max"),
        ({"consul": {"namespace": "x"}}, "Enterprise"),
    ],
)
def test_what_is_refused(tree: Any, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        of([decode(tree, "file.hcl")])
    assert text in str(caught.value)


def test_template_flag() -> None:
    assert template_flag("a:b:c:d") == {"source": "a", "destination": "b", "command": Program(line="c:d")}
    assert template_flag("a") == {"source": "a", "destination": ""}
    for wrong in (":b", "{}"):
        with pytest.raises(ConfigError):
            template_flag(wrong)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["template", "wait", "exec", "consul", "min", "command", "env", "source"]),
                inner,
            )
        ),
    )
)
def test_any_tree_is_settings_or_an_error(tree: Any) -> None:
    try:
        of([decode(tree, "f")])
    except ConfigError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("retry", "limit_set"),
    [("", False), ('retry { backoff = "1s" }', False), ("retry { attempts = 12 }", True)],
)
def test_a_limit_of_attempts_that_was_set_is_one(retry: str, limit_set: bool) -> None:
    settings = _settings(f'consul {{ {retry} }} template {{ source = "a" }}')
    assert (settings.retry.attempts, settings.retry.limit_set) == (12, limit_set)
