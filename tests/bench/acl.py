"""What ACLs cost: reads of keys with a token beside the same reads without ACLs, and with many tokens,
policies and rules beside a single one. The agents are measured in turns on the same machine."""

from __future__ import annotations

import base64
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench import load
from tests.harness import Agent

ROOT = "11110000-0000-0000-0000-000000000001"
KEYS = 20_000  # more than an agent remembers answers to
TOKENS, POLICIES, RULES, EACH = 1000, 200, 50, 5  # every token has five of the policies
CONNECTIONS = 32
CONFIG = {"limits": {"http_max_conns_per_client": 2000}, "log_level": "WARN"}
GUARDED = {"enabled": True, "default_policy": "deny", "tokens": {"initial_management": ROOT, "agent": ROOT}}

READ_SCRIPT = """
local tokens, random = {{tokens}}, math.random
request = function()
  return wrk.format("GET", "/v1/kv/team" .. random({policies}) - 1 .. "/" .. random({keys}) - 1,
                    {["X-Consul-Token"] = tokens[random(#tokens)]})
end
"""

Line = tuple[str, str, str, str, str, str]


def rows(folder: Path, seconds: float, rounds: int) -> Iterator[Line]:
    """The table's lines as they become known."""
    for name in ("open", "guarded"):
        (folder / name).mkdir()
    guarded = Agent(folder / "guarded", dev=False, config={**CONFIG, "acl": GUARDED}, token=ROOT)
    with Agent(folder / "open", dev=False, config=CONFIG) as plain, guarded:
        for agent in (plain, guarded):
            _fill(agent)
        one = [_policies(guarded, ["team", "bench"])]
        same = load.TOKEN_SCRIPT.replace("{path}", "/v1/kv/bench").replace("{token}", one[0])
        yield _row(
            "KV GET, one key, ACLs on beside off",
            lambda: load.wrk(guarded.base, CONNECTIONS, seconds, same),
            lambda: load.wrk(plain.base, CONNECTIONS, seconds, same),
            rounds,
            0.8,
        )
        reads = _script(one)
        yield _row(
            f"KV GET, {KEYS:,} keys, ACLs on beside off",
            lambda: load.wrk(guarded.base, CONNECTIONS, seconds, reads),
            lambda: load.wrk(plain.base, CONNECTIONS, seconds, reads),
            rounds,
            0.8,
        )
        few = _script(_tokens(guarded, 0))
        _team_policies(guarded)
        many = _script(_tokens(guarded, EACH))
        yield _row(
            f"{TOKENS:,} tokens, {POLICIES} policies of {RULES} rules, beside 1 of 1",
            lambda: load.wrk(guarded.base, CONNECTIONS, seconds, many),
            lambda: load.wrk(guarded.base, CONNECTIONS, seconds, few),
            rounds,
            0.9,
        )


def _row(what: str, ours: Callable[[], float], theirs: Callable[[], float], rounds: int, aim: float) -> Line:
    ours(), theirs()  # what is made at the first use is there
    both = [(ours(), theirs()) for _ in range(rounds)]
    mine, yardstick = (statistics.median(side) for side in zip(*both, strict=True))
    ratio = statistics.median(one / other for one, other in both)
    verdict = f"{'meets' if ratio >= aim else 'misses'} the aim of {aim:.2f}"
    return what, f"{mine:,.0f}/s", f"{yardstick:,.0f}/s", f"{ratio:.3f}", "-", verdict


def _script(tokens: list[str]) -> str:
    listed = ", ".join(f'"{token}"' for token in tokens)
    script = READ_SCRIPT.replace("{tokens}", listed)
    return script.replace("{policies}", str(POLICIES)).replace("{keys}", str(KEYS // POLICIES))


def _fill(agent: Agent) -> None:
    """Every policy has its folder of keys."""
    agent.put("/v1/kv/bench", b"Hello World")
    value = base64.b64encode(b"v" * 100).decode()
    keys = [f"team{number}/{key}" for number in range(POLICIES) for key in range(KEYS // POLICIES)]
    for start in range(0, KEYS, 64):
        some = keys[start : start + 64]
        agent.put("/v1/txn", [{"KV": {"Verb": "set", "Key": key, "Value": value}} for key in some])


def _policies(agent: Agent, prefixes: list[str]) -> str:
    """The secret of a token that reads what begins with these."""
    name = "-".join(prefixes)
    rules = "\n".join(f'key_prefix "{prefix}" {{ policy = "read" }}' for prefix in prefixes)
    agent.put("/v1/acl/policy", {"Name": name, "Rules": rules})
    secret: str = agent.put("/v1/acl/token", {"Policies": [{"Name": name}]}).json()["SecretID"]
    return secret


def _team_policies(agent: Agent) -> None:
    for number in range(POLICIES):
        folders = [f"team{number}/{'x/' * (rule % 4)}{rule}" for rule in range(RULES)]
        rules = "\n".join(f'key_prefix "{folder}" {{ policy = "write" }}' for folder in folders)
        agent.put("/v1/acl/policy", {"Name": f"team{number}", "Rules": rules})


def _tokens(agent: Agent, teams: int) -> list[str]:
    """The secrets of tokens that read everything, each with the rules of so many teams besides."""
    secrets = []
    for number in range(TOKENS):
        names = ["team-bench", *(f"team{(number + step * 37) % POLICIES}" for step in range(teams))]
        body = {"Policies": [{"Name": name} for name in names]}
        secrets.append(agent.put("/v1/acl/token", body).json()["SecretID"])
    return secrets
