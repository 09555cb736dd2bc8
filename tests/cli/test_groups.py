"""`services`, `checks`, `nodes`, `catalog`, `dc`, `info`, `maint`, `reload`, `monitor`, in a pipe."""

import json

import pytest

from tests.cli.conftest import check

SERVICES = (
    "Service  Instances  Passing  Warning  Critical  Maintenance  Tags\n"
    "consul   1          1        0        0         0            \n"
    "db       2          1        0        1         0            a,b\n"
)
SHOW = """\
Node  ID  Address         Status    Tags  Checks
n1    db  127.0.0.1:5432  passing   a,b   serfHealth: passing
n2    db  10.0.0.9:5433   critical  b     db-up: critical
"""


@pytest.mark.parametrize("words", [["services"], ["services", "list"]])
def test_services(ctl, agent, words):
    result = ctl(*words)
    assert (result.code, result.out, result.err) == (0, SERVICES, "")
    document = json.loads(ctl(*words, "-o", "json").out)
    assert document[1] == {
        "Name": "db",
        "InstanceCount": 2,
        "Passing": 1,
        "Warning": 0,
        "Critical": 1,
        "Maintenance": 0,
        "Tags": ["a", "b"],
    }
    assert ctl(*words, "--quiet").out == "consul\ndb\n"


def test_services_show(ctl, agent):
    assert ctl("services", "show", "db").out == SHOW
    ctl("services", "show", "-passing", "-tag=a", "-tag", "b", "-datacenter=dc2", "-stale", "db")
    assert agent.requests[-1][1] == "/v1/health/service/db?passing=1&tag=a&tag=b&dc=dc2&stale"
    result = ctl("services", "show", "zz")
    assert (result.code, result.err) == (1, "Error: no instance of service zz\n")
    assert ctl("services", "show", "--strict-exit", "zz").code == 3


def sent(agent):
    return [(path, json.loads(body)) for method, path, body, _ in agent.requests if method == "PUT"]


def test_register_by_flags(ctl, agent):
    result = ctl("services", "register", "-name=db", "-port=5432", "-tag=a", "-tag=b", "-meta=k=v",
                 "-tagged-address=lan=[::1]:5")  # fmt: skip
    assert (result.code, result.out) == (0, "Registered service: db\n")
    assert sent(agent) == [
        (
            "/v1/agent/service/register",
            {
                "Name": "db",
                "Tags": ["a", "b"],
                "Meta": {"k": "v"},
                "Port": 5432,
                "TaggedAddresses": {"lan": {"Address": "::1", "Port": 5}},
            },
        )
    ]


WEB = """{ "service": { "name": "web", "tags": ["web1"], "port": 80, "enableTagOverride": false,
  "checks": [ { "id": "api", "name": "HTTP API on port 80", "http": "http://localhost:80/index.html",
                "interval": "10s", "timeout": "1s" } ] } }"""


def test_register_from_files(ctl, agent, tmp_path):
    path = tmp_path / "web.json"
    path.write_text(WEB)
    more = tmp_path / "more.hcl"
    more.write_text('services { id = "a1" name = "a" enable_tag_override = true }\nservices { name = "b" }')
    result = ctl("services", "register", str(path), str(more))
    assert (result.code, result.out) == (
        0,
        "Registered service: web\nRegistered service: a\nRegistered service: b\n",
    )
    assert "enableTagOverride" in result.err
    assert [body for _, body in sent(agent)] == [
        {
            "Name": "web",
            "Tags": ["web1"],
            "Port": 80,
            "Checks": [
                {
                    "Name": "HTTP API on port 80",
                    "ID": "api",
                    "HTTP": "http://localhost:80/index.html",
                    "Interval": "10s",
                    "Timeout": "1s",
                }
            ],
        },
        {"Name": "a", "ID": "a1", "EnableTagOverride": True},
        {"Name": "b"},
    ]
    assert (
        ctl("services", "deregister", str(more)).out == "Deregistered service: a1\nDeregistered service: b\n"
    )


def test_bodies_are_what_the_agent_reads(ctl, agent, tmp_path):
    """What is read from a file comes out of the agent's decoder as it went in."""
    from cli.definitions import services_of_files
    from core.api.decode import service_definition
    from core.config.decode import decode
    from core.config.definitions import service_of
    from core.config.formats import Source
    from core.config.load import schema

    text = """service { name = "x" id = "y" kind = "" port = 1 address = "a" meta { k = "v" } token = "t"
      weights { passing = 3 warning = 2 }
      tagged_addresses { lan { address = "l" port = 2 } }
      checks = [{ id = "1" name = "n" notes = "o" http = "http://h" method = "PUT" body = "b"
        header { h = ["v"] } interval = "1m30s" timeout = "5s" success_before_passing = 2
        failures_before_critical = 3 deregister_critical_service_after = "10m" tls_skip_verify = true },
        { ttl = "15s" }, { args = ["/bin/true"] interval = "1s" },
        { grpc = "h:1" grpc_use_tls = true interval = "1s" },
        { h2ping = "h:1" h2ping_use_tls = false interval = "1s" }, { tcp = "h:1" interval = "1s" },
        { udp = "h:1" interval = "1s" }, { os_service = "u" interval = "1s" }, { alias_service = "z" },
        { docker_container_id = "d" shell = "/bin/sh" args = ["x"] interval = "1s" output_max_size = 5 }]
    }"""
    path = tmp_path / "x.hcl"
    path.write_text(text)
    values, _ = decode(Source("x.hcl", "hcl", text), schema(), strict=False)
    wanted = service_of(values["service"], pytest.fail)
    (body,) = services_of_files([str(path)])
    assert service_definition(json.dumps(body).encode()) == wanted


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["register"], "Service registration requires at least one argument or flags.\n"),
        (["register", "-name=x", "f"], "Service registration requires arguments or -id, not both.\n"),
        (["register", "nofile.json"], "Error: config: Open failed on nofile.json. open nofile.json: "
                                      "no such file or directory\n"),
        (["deregister"], "Service deregistration requires at least one argument or -id.\n"),
        (["deregister", "-id=x"], 'Error deregistering service "x": Unexpected response code: 404 (no)\n'),
    ],
)  # fmt: skip
def test_registration_errors(ctl, agent, words, error):
    agent.failures["/v1/agent/service/deregister/x"] = (404, "no")
    result = ctl("services", *words)
    assert (result.code, result.out, result.err) == (1, "", error)


def test_unknown_key_in_a_file(ctl, agent, tmp_path):
    path = tmp_path / "bad.json"
    path.write_text('{"service": {"name": "x", "bogus": 1}}')
    result = ctl("services", "register", str(path))
    assert result.code == 1
    assert result.err.startswith(
        f"Error: failed to parse {path}: 1 error occurred:\n\t* invalid config key service.bogus"
    )
    assert agent.requests == []


CHECKS = """\
Node  CheckID     Status    Service  Name        Output
n1    serfHealth  passing            serfHealth  Agent alive and reachable
n2    db-up       critical  db       db-up       connect: refused after 1 s
"""


def test_checks_list(ctl, agent):
    for words in (["checks"], ["checks", "list"]):
        assert ctl(*words).out == CHECKS
    assert [line.split()[1] for line in ctl("checks", "--state=critical").out.splitlines()[1:]] == ["db-up"]
    assert ctl("checks", "list", "-service=db", "--quiet").out == "db-up\n"
    assert json.loads(ctl("checks", "-node", "n1", "-o", "json").out)[0]["CheckID"] == "serfHealth"
    agent.answers["/v1/agent/checks"] = {"mine": check("n1", "mine", "warning")}
    assert "mine" in ctl("checks", "--local").out
    assert ctl("checks", "--local", "--node=n1").code == 1
    assert ctl("checks", "--service=a", "--node=n1").code == 1


def test_checks_updates(ctl, agent):
    assert ctl("checks", "pass", "service:web").out == "Check service:web is now passing\n"
    assert ctl("checks", "warn", "-note=a b", "w").out == "Check w is now warning\n"
    assert ctl("checks", "fail", "w", "-note", "x").out == "Check w is now critical\n"
    assert agent.paths() == [
        "PUT /v1/agent/check/pass/service:web",
        "PUT /v1/agent/check/warn/w?note=a%20b",
        "PUT /v1/agent/check/fail/w?note=x",
    ]
    agent.failures["/v1/agent/check/pass/zz"] = (500, "no")
    assert ctl("checks", "pass", "zz").err == "Error updating check: Unexpected response code: 500 (no)\n"
    assert ctl("checks", "deregister", "w").out == "Deregistered check: w\n"


def test_checks_register(ctl, agent, tmp_path):
    path = tmp_path / "check.json"
    path.write_text('{"check": {"id": "mem", "args": ["/bin/mem"], "interval": "5s"}}')
    assert ctl("checks", "register", str(path)).out == "Registered check: mem\n"
    done = ctl("checks", "register", "-name=web", "-http=http://h/", "-interval=90s", "-tls-skip-verify")
    assert done.out == "Registered check: web\n"
    assert [body for _, body in sent(agent)] == [
        {"Name": "mem", "ID": "mem", "Args": ["/bin/mem"], "Interval": "5s"},
        {"Name": "web", "HTTP": "http://h/", "Interval": "1m30s", "TLSSkipVerify": True},
    ]
    assert ctl("checks", "register").code == 1


NODES = """\
Node  ID        Address    DC   Status
n1    dab3cf9b  127.0.0.1  dc1  passing
n2    c4df1026  127.0.0.2  dc1  -
"""
CATALOG = """\
Node  ID        Address    DC
n1    dab3cf9b  127.0.0.1  dc1
n2    c4df1026  127.0.0.2  dc1
"""
ADDRESSES = "lan={0}, lan_ipv4={0}, wan={0}, wan_ipv4={0}"


def test_nodes(ctl, agent):
    assert ctl("nodes").out == ctl("nodes", "list").out == NODES
    shown = ctl("nodes", "show", "n1").out
    assert "dab3cf9b-f050-279c-ae6c-f0d96bb72f1c" in shown
    assert "serfHealth  passing" in shown
    assert json.loads(ctl("nodes", "show", "n1", "-o", "json").out)["Checks"][0]["CheckID"] == "serfHealth"
    result = ctl("nodes", "show", "zz")
    assert (result.code, result.err) == (1, "Error: no such node: zz\n")
    assert ctl("nodes", "deregister", "old").out == "Deregistered node: old\n"
    assert sent(agent) == [("/v1/catalog/deregister", {"Node": "old"})]


def test_catalog_nodes(ctl, agent):
    assert ctl("catalog", "nodes").out == CATALOG
    assert ctl("catalog", "nodes", "-service=db", "-near=_agent", "-node-meta=k=v").out == CATALOG
    assert agent.requests[-1][1] == "/v1/catalog/service/db?near=_agent&node-meta=k%3Av"
    lines = ctl("catalog", "nodes", "-detailed").out.splitlines()
    assert lines[1] == (
        "n1    dab3cf9b-f050-279c-ae6c-f0d96bb72f1c  127.0.0.1  dc1  "
        + ADDRESSES.format("127.0.0.1")
        + "  consul-network-segment="
    )
    assert lines[0].split() == ["Node", "ID", "Address", "DC", "TaggedAddresses", "Meta"]


def test_catalog_texts(ctl, agent):
    result = ctl("catalog", "nodes", "-service=zz")
    text = "No nodes match the given query - try expanding your search.\n"
    assert (result.code, result.out, result.err) == (0, "", text)
    assert ctl("catalog", "services").out == "consul\ndb\n"
    assert ctl("catalog", "services", "-tags").out == "consul      \ndb          a,b\n"
    assert ctl("catalog", "services", "-node=n1").out == "db\n"
    result = ctl("catalog", "services", "-node=zz")
    text = "No services match the given query - try expanding your search.\n"
    assert (result.code, result.out, result.err) == (0, "", text)
    assert ctl("catalog", "datacenters").out == ctl("dc", "list").out == ctl("dc").out == "dc1\n"
    assert ctl("catalog", "nodes", "x").err == "Too many arguments (expected 0, got 1)\n"
    agent.failures["/v1/catalog/services"] = (500, "No path to datacenter")
    result = ctl("catalog", "services", "-datacenter=zz")
    text = "Error listing services: Unexpected response code: 500 (No path to datacenter)\n"
    assert (result.code, result.err) == (1, text)


def test_info(ctl, agent):
    assert ctl("info").out == (
        "agent:\n\tchecks = 0\n\tservices = 1\nbuild:\n\tprerelease = \n\trevision = \n\tversion = 1.9.8\n"
    )


def test_agent_status(ctl, agent, monkeypatch):
    assert ctl("agent", "status").out.splitlines()[0] == "Node        n1"
    document = json.loads(ctl("agent", "status", "-o", "json").out)
    assert document["Leader"] == "127.0.0.1:8300"
    assert document["Server"] is True
    monkeypatch.setenv("CTL_HTTP_ADDR", "127.0.0.1:1")
    assert ctl("agent", "status").code == 1


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["-enable", "-disable"], "Only one of -enable or -disable may be provided\n"),
        (["-reason=x"], "Reason may only be provided with -enable\n"),
        (["-service=x"], "Service requires either -enable or -disable\n"),
        (
            ["-enable", "-service=nosuch"],
            "Error enabling service maintenance: Unexpected response code: 404 "
            '(No service registered with ID "nosuch")\n',
        ),
    ],
)
def test_maint_errors(ctl, agent, words, error):
    agent.failures["/v1/agent/service/maintenance/nosuch"] = (404, 'No service registered with ID "nosuch"')
    result = ctl("maint", *words)
    assert (result.code, result.out, result.err) == (1, "", error)


def test_maint(ctl, agent):
    assert (ctl("maint").out, ctl("maint").code) == ("", 0)
    assert ctl("maint", "-enable", "-reason=disk swap").out == "Node maintenance is now enabled\n"
    assert ctl("maint", "-disable", "-service=w").out == 'Service maintenance is now disabled for "w"\n'
    assert agent.paths()[-2:] == [
        "PUT /v1/agent/maintenance?enable=true&reason=disk%20swap",
        "PUT /v1/agent/service/maintenance/w?enable=false",
    ]
    agent.answers["/v1/agent/checks"] = {
        "_node_maintenance": check("n1", "_node_maintenance", "critical", notes="disk swap"),
        "_service_maintenance:w": check("n1", "_service_maintenance:w", "critical", "w", notes="new"),
        "other": check("n1", "other", "passing"),
    }
    assert ctl("maint").out == (
        "Node:\n  Name:   n1\n  Reason: disk swap\n\nService:\n  ID:     w\n  Reason: new\n\n"
    )


def test_reload(ctl, agent):
    result = ctl("reload")
    assert (result.code, result.out, result.err) == (0, "Configuration reload triggered\n", "")
    agent.failures["/v1/agent/reload"] = (200, "needs a restart: node_name\n")
    result = ctl("reload")
    assert result.out == "Configuration reload triggered\n"
    assert result.err == "needs a restart: node_name\n"
    assert json.loads(ctl("reload", "-o", "json").out)["Notes"] == ["needs a restart: node_name"]
    agent.failures["/v1/agent/reload"] = (500, "failed to parse x")
    text = "Error reloading: Unexpected response code: 500 (failed to parse x)\n"
    assert ctl("reload").err == text


def test_monitor(ctl, agent):
    agent.answers["/v1/agent/monitor"] = b"line one\nline two\n"
    assert ctl("monitor").out == "line one\nline two\n"
    assert agent.requests[-1][1] == "/v1/agent/monitor?loglevel=INFO"
    ctl("monitor", "-log-json", "-log-level=debug")
    assert agent.requests[-1][1] == "/v1/agent/monitor?loglevel=debug&logjson"
    agent.failures["/v1/agent/monitor"] = (400, "Bad request: Unknown log level: bogus")
    result = ctl("monitor", "-log-level=bogus")
    text = "Error starting monitor: Unexpected response code: 400 (Bad request: Unknown log level: bogus)\n"
    assert (result.code, result.err) == (1, text)


def test_validate(ctl, tmp_path):
    good = tmp_path / "good.json"
    good.write_text('{"data_dir": "/tmp/x", "node_name": "n1"}')
    assert ctl("validate", str(good)).out == "Configuration is valid!\n"
    assert ctl("validate", "-quiet", str(good)).out == ""
    bad = tmp_path / "bad.json"
    bad.write_text('{"data_dir": "/tmp/x", "bogus": 1}')
    result = ctl("validate", str(bad))
    assert result.code == 1
    assert result.err.startswith(
        f"Config validation failed: failed to parse {bad}: 1 error occurred:\n\t* invalid"
    )
    assert ctl("validate").err == "Must specify at least one config file or directory\n"
    result = ctl("validate", "-config-format=yaml", str(good))
    assert (result.code, result.err) == (1, "-config-format must be either 'hcl' or 'json\n")
