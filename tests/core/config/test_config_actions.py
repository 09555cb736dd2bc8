"""The block `actions`: every spelling of it, several files, and what is refused."""

from typing import Any

import pytest

from core.config import load as loading
from core.config.actions import actions
from core.config.diff import compare
from core.config.formats import Source
from core.errors import ConfigError
from core.node.definitions import ActionDefinition

HCL = """
data_dir = "/tmp/x"
actions {
  deploy { args = ["/bin/deploy", "--all"] user = "web" timeout = "90s" parameters = true }
  sync { args = ["/bin/sync"] }
}
"""


def loaded(*texts: str, kind: str = "hcl") -> Any:
    sources = [Source(f"{number}.{kind}", kind, text) for number, text in enumerate(texts)]
    return loading.load(sources, hostname="n1")


def test_blocks() -> None:
    found = actions(loaded(HCL)["actions"])
    assert found == {
        "deploy": ActionDefinition("deploy", ("/bin/deploy", "--all"), "web", 90_000_000_000, True),
        "sync": ActionDefinition("sync", ("/bin/sync",), "", 60_000_000_000, False),
    }
    as_json = '{"data_dir": "/tmp/x", "actions": {"sync": {"args": ["/bin/sync"]}}}'
    assert actions(loaded(as_json, kind="json")["actions"]) == {"sync": found["sync"]}


def test_files_add_up_and_the_later_one_wins() -> None:
    found = actions(
        loaded(HCL, 'actions { sync { args = ["/bin/other"] } more { args = ["/m"] } }')["actions"]
    )
    assert {name: one.args[0] for name, one in found.items()} == {
        "deploy": "/bin/deploy",
        "sync": "/bin/other",
        "more": "/m",
    }


def test_off_by_default_and_reloadable() -> None:
    before = loaded('data_dir = "/tmp/x"')
    assert (before["actions"], before["actions_without_acl"]) == ({}, False)
    change = compare(before, loaded(HCL))
    assert [one.key for one in change.applied] == ["actions"] and not change.restart


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ("deploy {}", "actions.deploy: args is required"),
        ("deploy { args = [] }", "actions.deploy: args is required"),
        ('deploy { args = "/bin/deploy" }', "actions.deploy: args is required"),
        ("deploy { args = [1] }", "actions.deploy: args is required"),
        ('deploy { args = ["deploy"] }', "must begin with the whole path"),
        ('deploy { args = ["/d"] shell = true }', "invalid config key shell"),
        ('deploy { args = ["/d"] timeout = "soon" }', "actions.deploy: timeout"),
        ('deploy { args = ["/d"] timeout = "0s" }', "actions.deploy: timeout must be above 0"),
        ('deploy { args = ["/d"] timeout = 5 }', "actions.deploy: timeout"),
        ('deploy { args = ["/d"] parameters = "yes" }', "parameters must be true or false"),
        ('deploy { args = ["/d"] user = 0 }', "user must be the name"),
        ('"rm -rf" { args = ["/d"] }', "a name has letters"),
        ("deploy = 1", "actions.deploy: a block was expected"),
    ],
)
def test_what_is_refused(block: str, text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        loaded(f'data_dir = "/tmp/x" actions {{ {block} }}')
    assert text in str(raised.value)
