"""`query`: prepared queries and Serf queries, in a pipe."""

import json

import pytest

from tests.cli.conftest import DB

ID = "8f246b77-f3e1-ff88-5b48-8ec93abf3e05"
QUERY = {
    "ID": ID,
    "Name": "geo-db",
    "Session": "",
    "Token": "",
    "Template": {"Type": "", "Regexp": "", "RemoveEmptyTags": False},
    "Service": {
        "Service": "mysql",
        "Failover": {"NearestN": 2, "Datacenters": ["dc3"]},
        "OnlyPassing": True,
        "IgnoreCheckIDs": ["c1"],
        "Near": "_agent",
        "Tags": ["a", "!b"],
        "NodeMeta": {"k": "v"},
        "ServiceMeta": None,
        "Connect": False,
    },
    "DNS": {"TTL": "10s"},
    "CreateIndex": 5,
    "ModifyIndex": 6,
}
TEMPLATE = {
    **QUERY,
    "ID": "other",
    "Name": "",
    "Template": {"Type": "name_prefix_match", "Regexp": "^(.*)$", "RemoveEmptyTags": True},
    "Service": {**QUERY["Service"], "Tags": None, "Failover": {"NearestN": 0, "Datacenters": None}},
    "DNS": {"TTL": ""},
}
LIST = f"""\
Name    Service  Tags  Failover        TTL  Kind      ID
        mysql                               template  other
geo-db  mysql    a,!b  nearest 2, dc3  10s  query     {ID}
"""
SHOW = f"""\
ID              {ID}
Name            geo-db
Service         mysql
Health          passing
Ignored checks  c1
Tags            a, !b
Node metadata   k=v
Near            _agent
Failover        nearest 2, dc3
DNS TTL         10s
CreateIndex     5
ModifyIndex     6
"""
FOUND = {"Service": "db", "Nodes": DB, "DNS": {"TTL": ""}, "Datacenter": "dc1", "Failovers": 0}


@pytest.fixture
def queries(agent):
    agent.answers["/v1/query"] = [QUERY, TEMPLATE]
    return agent


def test_list(ctl, queries):
    assert ctl("query", "list").out == LIST
    assert json.loads(ctl("query", "list", "-o", "json").out) == [TEMPLATE, QUERY]
    assert ctl("query", "list", "-quiet").out == "other\ngeo-db\n"


@pytest.mark.parametrize("name", ["geo-db", "GEO-DB", ID])
def test_show(ctl, queries, name):
    assert ctl("query", "show", name).out == SHOW
    assert json.loads(ctl("query", "show", name, "-o", "json").out) == QUERY


def test_show_one_that_only_its_id_tells(ctl, agent):
    agent.answers["/v1/query"] = []
    agent.answers["/v1/query/" + ID] = [QUERY]
    assert ctl("query", "show", ID).out == SHOW
    result = ctl("query", "show", "nope")
    assert (result.code, result.err) == (1, "Error: no query nope\n")
    assert ctl("query", "show", "--strict-exit", ID[:-1] + "0").code == 3


def sent(agent, method):
    return [(path, body and json.loads(body)) for verb, path, body, _ in agent.requests if verb == method]


def test_create(ctl, queries, tmp_path):
    queries.respond = created(queries)
    text = (
        "-service=mysql -tag=a -tag=!b -only-passing -near=_agent -ttl=90s -failover-nearest=2 "
        "-failover-dc=dc3 -node-meta=k=v -meta=m=1 -ignore-check=c1 -session=s -query-token=t -connect"
    )
    words = text.split()
    assert ctl("query", "create", "geo", *words).out == f"Created query: {ID}\n"
    service = {
        "Service": "mysql",
        "Tags": ["a", "!b"],
        "OnlyPassing": True,
        "IgnoreCheckIDs": ["c1"],
        "Near": "_agent",
        "NodeMeta": {"k": "v"},
        "ServiceMeta": {"m": "1"},
        "Connect": True,
        "Failover": {"NearestN": 2, "Datacenters": ["dc3"]},
    }
    whole = {"Name": "geo", "Session": "s", "Token": "t", "Service": service, "DNS": {"TTL": "1m30s"}}
    assert sent(queries, "POST") == [("/v1/query", whole)]
    ctl("query", "create", "t-", "-service=${name.suffix}", "-regexp=^t-(.*)", "-drop-empty-tags")
    template = {"Type": "name_prefix_match", "Regexp": "^t-(.*)", "RemoveEmptyTags": True}
    assert sent(queries, "POST")[-1][1] == {
        "Name": "t-",
        "Service": {"Service": "${name.suffix}"},
        "Template": template,
    }
    file = tmp_path / "q.json"
    file.write_text(json.dumps(QUERY))
    assert ctl("query", "create", f"-file={file}", "--quiet").out == ID + "\n"
    assert sent(queries, "POST")[-1][1]["Service"] == QUERY["Service"]
    assert "ID" not in sent(queries, "POST")[-1][1]


def created(agent):
    respond = agent.respond
    return lambda *q: (200, {"ID": ID}, 0) if q[0] == "POST" else respond(*q)


def test_replace(ctl, queries):
    queries.respond = created(queries)
    result = ctl("query", "create", "GEO-db", "-service=x", "-replace")
    assert result.out == f"Replaced query: {ID}\n"
    assert sent(queries, "PUT") == [(f"/v1/query/{ID}", {"Name": "GEO-db", "Service": {"Service": "x"}})]
    assert ctl("query", "create", "new", "-service=x", "-replace").out == f"Created query: {ID}\n"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["geo"], "Error: -service is missing"),
        (["geo", "-file=q.json"], "from a file or from flags, not from both"),
        (["-file=/nowhere/q.json"], "open /nowhere/q.json: no such file"),
    ],
)
def test_create_what_is_wrong(ctl, queries, words, why):
    result = ctl("query", "create", *words)
    assert result.code == 1
    assert why in result.err
    assert not sent(queries, "POST")


def test_create_from_what_is_no_query(ctl, queries, tmp_path):
    for text, why in (("{", "is not JSON"), ("[]", "holds no query")):
        file = tmp_path / "q.json"
        file.write_text(text)
        assert why in ctl("query", "create", f"-file={file}").err


def test_create_is_refused(ctl, agent):
    agent.failures["/v1/query"] = (500, "name 'geo-db' aliases an existing query name")
    result = ctl("query", "create", "geo-db", "-service=x")
    text = (
        "Error creating query: Unexpected response code: 500 (name 'geo-db' aliases an existing query name)\n"
    )
    assert (result.code, result.err) == (1, text)


def test_delete(ctl, queries):
    assert ctl("query", "delete", "geo-db").out == "Deleted query: geo-db\n"
    assert sent(queries, "DELETE") == [(f"/v1/query/{ID}", b"")]
    assert ctl("query", "delete", "nope").err == "Error: no query nope\n"


def test_exec(ctl, agent):
    agent.answers["/v1/query/geo db/execute"] = FOUND
    table = (
        "Node  ID  Address         Status    Tags\n"
        "n1    db  127.0.0.1:5432  passing   a,b\n"
        "n2    db  10.0.0.9:5433   critical  b\n"
    )
    assert ctl("query", "exec", "geo db").out == table
    assert json.loads(ctl("query", "exec", "geo db", "-o", "json").out) == FOUND
    assert ctl("query", "exec", "geo db", "--quiet").out == "127.0.0.1:5432\n10.0.0.9:5433\n"
    ctl("query", "exec", "geo db", "-near=_agent", "-limit=3", "-connect", "-datacenter=dc2")
    assert agent.requests[-1][1] == "/v1/query/geo%20db/execute?near=_agent&limit=3&connect=true&dc=dc2"


def test_exec_elsewhere_and_nowhere(ctl, agent):
    agent.answers["/v1/query/a/execute"] = {**FOUND, "Datacenter": "dc2", "Failovers": 1}
    agent.answers["/v1/query/b/execute"] = {**FOUND, "Nodes": []}
    assert ctl("query", "exec", "a").err == "These are of datacenter dc2: nearer ones have none.\n"
    result = ctl("query", "exec", "b")
    assert (result.code, result.err) == (1, "Error: query b finds no instance of db\n")
    assert json.loads(ctl("query", "exec", "b", "-o", "json").out)["Nodes"] == []
    assert ctl("query", "exec", "c").err == "Error: no query c\n"


def test_explain(ctl, agent):
    agent.answers["/v1/query/geo-x/explain"] = {"Query": QUERY}
    assert ctl("query", "explain", "geo-x").out == SHOW
    assert ctl("query", "explain", "zz").err == "Error: no query zz\n"


ANSWERS = b"""\
{"Type":"ack","From":"s1"}
{"Type":"response","From":"s2","Payload":"MC40Mgo="}
{"Type":"response","From":"s3","Payload":"/wobWzJK"}
{"Type":"done","Acks":1,"Responses":2}
"""


def test_send(ctl, agent):
    respond = agent.respond
    agent.respond = lambda *q: (200, ANSWERS, 0) if q[0] == "POST" else respond(*q)
    assert ctl("query", "send", "load", "pay load").out == (
        "Query 'load' dispatched\n"
        "Ack from 's1'\n"
        "Response from 's2': 0.42\n"
        "Response from 's3': \N{REPLACEMENT CHARACTER}\n\N{REPLACEMENT CHARACTER}[2J\n"
        "Total Acks: 1\n"
        "Total Responses: 2\n"
    )
    assert agent.requests[-1][:3] == ("POST", "/v1/internal/query/load", b"pay load")
    document = {"Acks": ["s1"], "Responses": {"s2": "0.42\n", "s3": "\N{REPLACEMENT CHARACTER}\n\x1b[2J"}}
    assert json.loads(ctl("query", "send", "load", "-o", "json").out) == document
    assert ctl("query", "send", "load", "--quiet").out == "s2\ns3\n"
    words = "-node=a -node=b -tag=role=web -timeout=2s -no-ack -relay-factor=2"
    ctl("query", "send", "load", *words.split())
    query = "node=a&node=b&tag=role%3Dweb&timeout=2000000000ns&no-ack&relay-factor=2"
    assert agent.requests[-1][1] == f"/v1/internal/query/load?{query}"


def test_send_is_refused(ctl, agent):
    agent.failures["/v1/internal/query/q"] = (403, "Permission denied")
    result = ctl("query", "send", "q", "--strict-exit")
    text = "Error sending query: Unexpected response code: 403 (Permission denied)\n"
    assert (result.code, result.err) == (4, text)
