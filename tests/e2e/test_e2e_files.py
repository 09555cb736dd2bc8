"""Configuration files that `ctl template` keeps true, with the programs that read them."""

from __future__ import annotations

import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e import Backend, Program, ctl, get, read, register
from tests.harness import ROOT, Agent, own_address, until

PORT = 8080


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with Agent(tmp_path_factory.mktemp("agent")) as running:
        yield running


class Server(NamedTuple):
    """A program that hands requests on, as its configuration file says."""

    template: str
    start: str
    check: str
    reload: str


SERVICES = '{{ range service "web" }}%s\n{{ end }}{{ keyOrDefault "web/extra" "" }}'
HAPROXY = (
    """\
global
  log stdout format raw local0
defaults
  mode http
  timeout connect 1s
  timeout client 5s
  timeout server 5s
frontend all
  bind OWN:PORT
  default_backend web
backend web
  option redispatch
"""
    + SERVICES % "  server {{ .ID }} {{ .Address }}:{{ .Port }}"
    + "\n"
)
NGINX = (
    """\
daemon off;
worker_processes 1;
pid FOLDER/nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path FOLDER/body;
  proxy_temp_path FOLDER/proxy;
  fastcgi_temp_path FOLDER/fastcgi;
  uwsgi_temp_path FOLDER/uwsgi;
  scgi_temp_path FOLDER/scgi;
  upstream web {
"""
    + SERVICES % "    server {{ .Address }}:{{ .Port }};"
    + """
  }
  server { listen OWN:PORT; location / { proxy_pass http://web; } }
}
"""
)
SERVERS = {
    "haproxy": Server(
        HAPROXY, "PROGRAM -W -db -f web.conf -p web.pid", "PROGRAM -c -f {tmp}", "kill -USR2 $(cat web.pid)"
    ),
    "nginx": Server(
        NGINX,
        "PROGRAM -p FOLDER -c FOLDER/web.conf",
        "PROGRAM -t -p FOLDER -c {tmp}",
        "PROGRAM -s reload -p FOLDER -c FOLDER/web.conf",
    ),
}


@pytest.mark.parametrize("name", list(SERVERS))
def test_a_server_reads_what_is_rendered(
    agent: Agent, tmp_path: Path, tool: Callable[[str], str], name: str
) -> None:
    program, own = tool(name), own_address()
    tmp_path.chmod(0o755)

    def filled(text: str) -> str:
        for word, value in {
            "PROGRAM": program,
            "FOLDER": str(tmp_path),
            "OWN": own,
            "PORT": str(PORT),
        }.items():
            text = text.replace(word, value)
        return text

    server = Server(*map(filled, SERVERS[name]))
    conf, runs = tmp_path / "web.conf", tmp_path / "runs"
    (tmp_path / "web.ctmpl").write_text(server.template)
    words = ["template", "--template", f"web.ctmpl:web.conf:echo x >> runs; {server.reload}"]
    words += ["--check", server.check, "--log-level", "DEBUG"]

    def served() -> set[str]:
        return {get(own, PORT) for _ in range(8)}

    with ExitStack() as stack:
        names = [f"{name}{number}" for number in range(5)]
        backends = [stack.enter_context(Backend(each, own_address(), 9000)) for each in names]
        register(agent, "web", backends[0])
        first = ctl(agent, tmp_path, "template", "--template", "web.ctmpl:web.conf", "--once", log="once.log")
        with first:
            assert first.wait() == 0
        stack.enter_context(Program(shlex.split(server.start), tmp_path, f"{name}.log"))
        until("the server serves", lambda: served() == {names[0]})
        runner = stack.enter_context(ctl(agent, tmp_path, *words, log="template.log"))

        took = []
        for number, backend in enumerate(backends[1:], 1):
            register(agent, "web", backend)
            start = time.monotonic()
            until("it is in the file", lambda backend=backend: backend.address in read(conf))
            took.append(time.monotonic() - start)
            until("it is served", lambda number=number: served() == set(names[: number + 1]))
            assert read(runs) == "x\n" * number, "a run of the command for each change"
        assert statistics.median(took) < 1.0

        good = read(conf)
        agent.put("/v1/kv/web/extra", "no { such directive")
        until("the check says no", lambda: "the check" in runner.text)
        assert read(conf) == good and read(runs) == "x\n" * 4
        until("all are served", lambda: served() == set(names))
        agent.put("/v1/agent/service/deregister/" + names[1])  # with the bad line this changes nothing
        until("the check says no again", lambda: runner.text.count("the check") == 2)
        assert read(conf) == good
        agent.put("/v1/kv/web/extra", "  # all is well")
        until("the file is true again", lambda: "all is well" in read(conf))
        until("it is served", lambda: served() == set(names) - {names[1]})
        assert read(runs) == "x\n" * 5
        assert runner.end() == 12
    for each in names:
        agent.put("/v1/agent/service/deregister/" + each)
    agent.http("DELETE", "/v1/kv/web/extra")


HOSTS = """\
{{range services}}# {{.Name}}{{range service .Name "any"}}
{{.Address}}    {{.Node}}{{end}}

{{end}}
"""
HOSTS_OUT = """\
# consul
127.0.0.1    n1

# web
10.20.0.51    web1
10.20.0.52    web2


"""


@pytest.mark.parametrize("command", ["ctl template", "consul-template"])
def test_the_hosts_file_as_typed(tmp_path: Path, command: str) -> None:
    """By the names that are typed, in a shell, with a reload that is somebody else's program."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {
        "ctl": f'exec {sys.executable} -m cli "$@"',
        "consul-template": f"exec {sys.executable} -c 'from cli.template import main; main()' \"$@\"",
        "systemctl": 'echo "$@" >> reloads',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    (tmp_path / "template").mkdir()
    (tmp_path / "template" / "hosts.ctmpl").write_text(HOSTS)
    home = tmp_path / "agent"
    home.mkdir()
    with Agent(home, flags=["--node", "n1"]) as agent:

        def place(number: int) -> None:
            body = {
                "Node": f"web{number}",
                "Address": f"10.20.0.{50 + number}",
                "Service": {"Service": "web"},
            }
            agent.put("/v1/catalog/register", body)

        place(1)
        known = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "CONSUL_HTTP_ADDR": agent.base,
        }
        line = f'exec {command} --template "template/hosts.ctmpl:hosts.out:systemctl reload nginx"'
        with Program(["/bin/sh", "-c", line], tmp_path, "runner.log", known) as runner:
            until("the first", lambda: "web1" in read(tmp_path / "hosts.out"))
            until("the reload", lambda: read(tmp_path / "reloads") == "reload nginx\n")
            place(2)
            start = time.monotonic()
            until("the second", lambda: "web2" in read(tmp_path / "hosts.out"))
            assert time.monotonic() - start < 2.0  # one second, and what a busy machine adds
            text = HOSTS_OUT.replace("127.0.0.1 ", f"{agent.address} ")
            assert read(tmp_path / "hosts.out") == text
            until("the second reload", lambda: read(tmp_path / "reloads") == "reload nginx\n" * 2)
            assert runner.end() == 12
        assert read(tmp_path / "reloads") == "reload nginx\n" * 2
