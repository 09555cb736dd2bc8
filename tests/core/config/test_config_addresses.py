"""Where to bind, advertise and listen, on machines that are only described."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config.addresses import Addresses, Host, Listener, resolve
from core.config.flags import parse
from core.config.load import Source, load
from core.config.sockaddr import Interface, TemplateError, evaluate
from core.errors import ConfigError

LOOPBACK = Interface("lo", ("127.0.0.1/8", "::1/128"))
ETH0 = Interface("eth0", ("fe80::1/64", "10.0.0.5/24", "2600::5/64"))
DOCKER = Interface("docker0", ("172.17.0.1/16",))
PUBLIC = Interface("wan0", ("8.8.4.4/24",))

LAPTOP = Host((LOOPBACK, ETH0), "eth0")
BUSY = Host((LOOPBACK, DOCKER, ETH0, PUBLIC), "eth0")


def of(text: str, host: Host = LAPTOP, flags: str = "-data-dir=/x") -> Addresses:
    return resolve(load([Source("F", "hcl", text)], parse(flags.split()), hostname="h"), host)


def error_of(text: str, host: Host = LAPTOP) -> str:
    with pytest.raises(ConfigError) as caught:
        of(text, host)
    return str(caught.value)


def test_defaults() -> None:
    found = of("")
    assert (found.bind, found.advertise, found.advertise_wan) == ("0.0.0.0", "10.0.0.5", "10.0.0.5")
    assert found.tagged == dict.fromkeys(("lan", "wan", "lan_ipv4", "wan_ipv4"), "10.0.0.5")
    assert found.http == [Listener("127.0.0.1", 8500)]
    assert found.dns == [Listener("127.0.0.1", 8600)]
    assert found.https == found.notices == []


def test_dev_needs_no_network() -> None:
    assert of("", Host(), "-dev").advertise == "127.0.0.1"


def test_of_several_private_addresses_the_default_route_is_taken_aloud() -> None:
    found = of("", BUSY)
    assert found.advertise == "10.0.0.5"
    (notice,) = found.notices
    assert "172.17.0.1 (docker0), 10.0.0.5 (eth0)" in notice
    assert "eth0 has the default route" in notice


def test_several_private_addresses_without_a_route() -> None:
    error = error_of("", Host(BUSY.interfaces, ""))
    assert error.startswith("Multiple private IPv4 addresses found. Please configure one with 'bind' and/or")
    assert "172.17.0.1 (docker0)" in error


def test_no_private_address() -> None:
    assert error_of("", Host((LOOPBACK, PUBLIC), "wan0")).startswith(
        "No private IPv4 address found; there are 127.0.0.1 (lo), ::1 (lo), 8.8.4.4 (wan0)."
    )


def test_ipv6() -> None:
    found = of('bind_addr = "::"')
    assert found.advertise == "2600::5"
    assert found.tagged["lan_ipv6"] == "2600::5"
    assert str(found.http[0]) == "127.0.0.1:8500"
    assert str(of('client_addr = "[::1]"').http[0]) == "[::1]:8500"


@pytest.mark.parametrize(
    "text", ["eth0", '{{ GetInterfaceIP \\"eth0\\" }}', "{{ GetPrivateIP }}", "10.0.0.5"]
)
def test_ways_to_say_an_address(text: str) -> None:
    assert of(f'bind_addr = "{text}"').bind == "10.0.0.5"


def test_client_addresses() -> None:
    found = of(
        'client_addr = "127.0.0.1 {{ GetPrivateIP }} 127.0.0.1" ports { https = 1 } '
        'addresses { dns = "127.0.0.2" }'
    )
    assert found.client == ["127.0.0.1", "10.0.0.5", "127.0.0.1"]
    assert [str(listener) for listener in found.http] == ["127.0.0.1:8500", "10.0.0.5:8500"]
    assert [str(listener) for listener in found.https] == ["127.0.0.1:1", "10.0.0.5:1"]
    assert [str(listener) for listener in found.dns] == ["127.0.0.2:8600"]


def test_unix_sockets() -> None:
    (listener,) = of('addresses { http = "unix:///run/x.sock" }').http
    assert (listener.path, str(listener)) == ("/run/x.sock", "unix:///run/x.sock")
    assert error_of('addresses { dns = "unix:///x" }') == "DNS address cannot be a unix socket"
    assert error_of('bind_addr = "unix:///x"') == "bind_addr cannot be a unix socket"


def test_tagged_addresses() -> None:
    found = of(
        'advertise_addr_wan = "1.2.3.4" advertise_addr_ipv6 = "2600::9" '
        'tagged_addresses { wan_ipv4 = "5.6.7.8" }'
    )
    assert found.tagged == {
        "lan": "10.0.0.5",
        "lan_ipv4": "10.0.0.5",
        "lan_ipv6": "2600::9",
        "wan": "1.2.3.4",
        "wan_ipv4": "5.6.7.8",
    }


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("ports { http = 8600 }", "HTTP address 127.0.0.1:8600 already configured for DNS"),
        ("ports { https = 8500 }", "HTTPS address 127.0.0.1:8500 already configured for HTTP"),
        ("ports { server = 8301 }", "Serf Advertise LAN address 10.0.0.5:8301 already configured for RPC"),
        ('advertise_addr = "0.0.0.0"', "Advertise addr cannot be 0.0.0.0, :: or [::]"),
        ('bind_addr = "1.1.1.1 2.2.2.2"', "bind_addr: multiple addresses found: 1.1.1.1 2.2.2.2"),
        ('bind_addr = "eth9"', 'bind_addr: "eth9" is no address and no interface; there are 127.0.0.1 (lo)'),
        (
            'bind_addr = "{{ GetNothing }}"',
            'bind_addr: error parsing "{{ GetNothing }}": function "GetNothing" not',
        ),
        ('bind_addr = "{{ GetPublicIP"', "unclosed action"),
        ('bind_addr = "{{ GetInterfaceIP \\"x\\" }}"', "gave no address; there are"),
        ('advertise_addr_ipv4 = "::1"', "advertise_addr_ipv4 must be an IPv4 address"),
    ],
)
def test_error(text: str, error: str) -> None:
    assert error in error_of(text)


def test_a_template_without_an_address_leaves_listeners_where_they_are() -> None:
    found = of('addresses { http = "{{ GetInterfaceIP \\"gone0\\" }}" }')
    assert found.http == [Listener("127.0.0.1", 8500)]
    (notice,) = found.notices
    assert "gave no address; the client addresses stand in" in notice


def test_names_are_looked_up_in_what_is_known() -> None:
    host = Host((LOOPBACK,), "", {"me.example": "192.168.1.1"})
    assert of('bind_addr = "me.example"', host).bind == "192.168.1.1"
    assert of('bind_addr = "localhost"', host).bind == "127.0.0.1"


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ GetPrivateIP }}", "10.0.0.5"),
        ("{{ GetPublicIP }}", "2600::5"),
        ("{{GetPrivateIPs}}", "172.17.0.1 10.0.0.5"),
        ("{{ GetPublicIPs }}", "8.8.4.4 2600::5"),
        ('{{ GetInterfaceIP "docker0" }}', "172.17.0.1"),
        ('{{ GetInterfaceIPs "eth0" }}', "10.0.0.5 fe80::1 2600::5"),
        ('{{ GetDefaultInterfaces | attr "address" }}', "10.0.0.5"),
        ('{{ GetAllInterfaces | include "network" "172.16.0.0/12" | attr "address" }}', "172.17.0.1"),
        ('{{ GetAllInterfaces | include "name" "^docker" | join "string" "," }}', "172.17.0.1/16"),
        ('{{ GetAllInterfaces | exclude "flags" "loopback" | include "type" "IPv4" | sort "-address" '
         '| limit 1 | join "address" " " }}', "172.17.0.1"),
        ('{{ GetAllInterfaces | include "rfc" "6890" | include "flags" "forwardable|up" '
         '| sort "+name,address" | offset 1 | attr "name" }}', "eth0"),
        ('{{ GetAllInterfaces | unique "name" | join "name" "+" }}', "lo+docker0+eth0+wan0"),
        ('{{ GetPrivateInterfaces | attr "network" }}', "10.0.0.0"),
        ('{{ GetPrivateInterfaces | join "address" " " }}', "10.0.0.5 172.17.0.1"),
        ('{{ GetPrivateInterfaces | include "network" "172.16.0.0/12" | attr "address" }}', "172.17.0.1"),
        ('{{ GetPublicInterfaces | include "type" "ipv4" | attr "address" }}', "8.8.4.4"),
        ('{{ GetInterfaceIP "eth.*" }}', "10.0.0.5"),
        ('{{ GetInterfaceIP "^(eth|wan)0$" }}', "10.0.0.5"),
        ('{{ GetInterfaceIP "lo" }}', ""),
        ('{{ GetInterfaceIPs "lo" }}', "127.0.0.1 ::1"),
        ('{{ GetAllInterfaces | include "rfc" "1918|5737" | join "address" " " }}', "172.17.0.1 10.0.0.5"),
        ('{{ GetAllInterfaces | include "network" "8.0.0.0/8|172.16.0.0/12" | join "name" " " }}',
         "docker0 wan0"),
        ('{{ GetAllInterfaces | include "type" "ipv4|ipv6" | sort "type,size" | attr "address" }}',
         "127.0.0.1"),
        ('{{ GetAllInterfaces | include "flags" "up|broadcast" | attr "name" }}', "docker0"),
        ('{{ GetAllInterfaces | include "flags" "forwardable" | sort "type,address" | limit 1 }}',
         "8.8.4.4"),
        ('{{ GetPrivateInterfaces | math "address" "+1" | attr "string" }}', "10.0.0.6/24"),
        ('{{ GetPrivateInterfaces | math "network" "+5" | attr "address" }}', "10.0.0.5"),
        ('{{ GetPrivateInterfaces | math "network" "-1" | attr "address" }}', "10.0.0.255"),
        ('{{ GetPrivateInterfaces | math "mask" "16" | attr "string" }}', "10.0.0.0/16"),
        ('{{ GetPrivateInterfaces | attr "netmask" }}', "255.255.255.0"),
        ('{{ GetPrivateIP }} of {{ GetPrivateInterfaces | attr "size" }}', "10.0.0.5 of 256"),
        ('{{ GetAllInterfaces | include "size" "16" }}', "172.17.0.1"),
        ("plain", "plain"),
    ],
)  # fmt: skip
def test_template(template: str, value: str) -> None:
    assert evaluate(template, BUSY) == value


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("{{ }}", "missing value for command"),
        ("{{ GetAllInterfaces | }}", "missing value for command"),
        ("{{ GetInterfaceIP }}", "wrong number of args for GetInterfaceIP: want 1 got 0"),
        ('{{ GetPrivateIP | limit "1" }}', "limit needs a list of interfaces, not text"),
        ('{{ limit "1" }}', "can only be used behind"),
        ("{{ GetAllInterfaces | GetPrivateIP }}", "can only be used at the start"),
        ('{{ GetAllInterfaces | include "zork" "x" }}', "invalid include selector type"),
        ('{{ GetAllInterfaces | include "network" "x" }}', "does not appear to be"),
        ('{{ GetAllInterfaces | include "name" "(" }}', "bad regular expression"),
        ('{{ GetAllInterfaces | include "type" "unix" }}', "unsupported address type"),
        ('{{ GetAllInterfaces | include "rfc" "1" }}', "unsupported RFC"),
        ('{{ GetPrivateInterfaces | math "address" "1" }}', 'math "address" needs a sign (+/-) and a number'),
        ('{{ GetPrivateInterfaces | math "mask" "33" }}', "needs a number up to 32"),
        ('{{ GetPrivateInterfaces | math "x" "1" }}', "unsupported math"),
        ('{{ GetAllInterfaces | include "flags" "x" }}', "unsupported flag"),
        ('{{ GetAllInterfaces | sort "x" }}', "unsupported sort key"),
        ('{{ GetAllInterfaces | limit "x" }}', "is not a number"),
        ('{{ GetAllInterfaces | attr "x" }}', "unsupported attribute"),
        ('{{ GetAllInterfaces | unique "x" }}', "unsupported unique selector"),
        ('{{ GetInterfaceIP "x }}', "unterminated quoted string"),
        ("{{ (GetPrivateIP) }}", "parentheses"),
    ],
)
def test_template_error(template: str, error: str) -> None:
    with pytest.raises(TemplateError) as caught:
        evaluate(template, BUSY)
    assert error in str(caught.value)


SIGNS = st.sampled_from(["{{", "}}", " ", "|", '"', "`", "(", "\\", "1", "é", "\n"])
WORDS = st.sampled_from(
    ["GetAllInterfaces", "GetPrivateIP", "include", "limit", "sort", '"name"', '"address"']
)
PIECES = st.one_of(SIGNS, WORDS)


@given(st.lists(PIECES, max_size=12).map("".join))
def test_any_template_gives_text_or_an_error(text: str) -> None:
    try:
        assert isinstance(evaluate(text, BUSY), str)
    except TemplateError as error:
        assert str(error)
