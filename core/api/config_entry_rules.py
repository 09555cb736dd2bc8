"""What a config entry must fulfil by itself before it is written.

`normalize` fills in what the servers decide, `validate` refuses (Invalid, with Consul's texts). How an entry
fits with the others is in `config_entry_graph`."""

from __future__ import annotations

import math
from collections.abc import Callable

from core.api import filter
from core.api.config_entry_kinds import rows
from core.api.config_entry_shapes import Entry
from core.codec import duration
from core.codec.duration import quote
from core.errors import Invalid

GLOBAL = "global"
_META_PAIRS, _META_KEY, _META_VALUE = 64, 128, 512
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"))
ROUTABLE = frozenset(("http", "http2", "grpc"))
_POLICIES = frozenset(("", "random", "round_robin", "least_request", "ring_hash", "maglev"))
_HASHED = frozenset(("ring_hash", "maglev"))
_ACTIONS = frozenset(("allow", "deny"))


def normalize(entry: Entry) -> Entry:
    """The entry, which is changed, with defaults filled in. Invalid for a wrong name."""
    kind = entry["Kind"]
    if kind == "service-defaults":
        entry["Protocol"] = entry["Protocol"].lower()
    elif kind == "proxy-defaults":
        entry["Name"] = proxy_name(entry["Name"])
    elif kind == "service-router":
        for route in rows(entry, "Routes"):
            if http := (route["Match"] or {}).get("HTTP"):
                http["Methods"] = _upper(http["Methods"])
    elif kind == "service-splitter":
        for split in rows(entry, "Splits"):
            split["Weight"] = _scaled(split["Weight"]) / 100
    elif kind == "ingress-gateway":
        for listener in rows(entry, "Listeners"):
            listener["Protocol"] = (listener["Protocol"] or "tcp").lower()
    elif kind == "service-intentions":
        entry["Sources"] = _intention_sources(entry)
    return entry


def proxy_name(name: str) -> str:
    """The one name that an entry of kind proxy-defaults may have."""
    if name not in ("", GLOBAL):
        raise Invalid(f'invalid name ({quote(name)}), only "{GLOBAL}" is supported')
    return GLOBAL


def _upper(methods: list[str] | None) -> list[str] | None:
    return None if methods is None else [method.upper() for method in methods]


def _scaled(weight: float) -> int:
    """A weight in hundredths of a percent, rounded as Go does: halves away from zero."""
    return int(math.copysign(math.floor(abs(weight) * 100 + 0.5), weight))


def _intention_sources(entry: Entry) -> list[Entry] | None:
    if entry["Sources"] is None:
        return None
    highest = 6 if entry["Name"] == "*" else 9
    for source in rows(entry, "Sources"):
        source["Type"] = source["Type"] or "consul"
        source["Precedence"] = highest - (source["Name"] == "*")
        source["LegacyID"], source["LegacyCreateTime"], source["LegacyUpdateTime"] = "", None, None
        for permission in rows(source, "Permissions"):
            if permission["HTTP"]:
                permission["HTTP"]["Methods"] = _upper(permission["HTTP"]["Methods"])
    return sorted(rows(entry, "Sources"), key=lambda source: -source["Precedence"])


def validate(entry: Entry) -> None:
    """Invalid unless the entry may be stored."""
    _RULES[entry["Kind"]](entry)
    _check_meta(entry.get("Meta") or {})


def _check_meta(meta: dict[str, str]) -> None:
    faults = []
    if len(meta) > _META_PAIRS:
        faults.append(f"Meta exceeds maximum element count {_META_PAIRS}")
    for key, value in sorted(meta.items()):
        if len(key.encode("utf-8", "surrogateescape")) > _META_KEY:
            faults.append(f"Meta key {quote(key)} exceeds maximum length {_META_KEY}")
        if len(value.encode("utf-8", "surrogateescape")) > _META_VALUE:
            faults.append(f"Meta value for key {quote(key)} exceeds maximum length {_META_VALUE}")
    if faults:
        plural = "error" if len(faults) == 1 else "errors"
        raise Invalid(
            f"{len(faults)} {plural} occurred:\n" + "".join(f"\t* {one}\n" for one in faults) + "\n"
        )


def _named(entry: Entry) -> None:
    if not entry["Name"]:
        raise Invalid("Name is required")


def _service_defaults(entry: Entry) -> None:
    if not entry["Name"]:
        raise Invalid("serviceName is required")  # the text is recorded: it comes from the chain


def _nothing(entry: Entry) -> None:
    """No rules of its own."""


def _router(entry: Entry) -> None:
    _named(entry)
    for number, route in enumerate(rows(entry, "Routes")):
        where = f"Route[{number}]"
        http = (route["Match"] or {}).get("HTTP")
        rewritable = False
        if http:
            _check_paths(http, where + " ")
            rewritable = bool(http["PathExact"] or http["PathPrefix"])
            _check_headers(http, where + " ")
            for at, parameter in enumerate(rows(http, "QueryParam")):
                if not parameter["Name"]:
                    raise Invalid(f"{where} QueryParam[{at}] missing required Name field")
                if sum(bool(parameter[way]) for way in ("Present", "Exact", "Regex")) != 1:
                    raise Invalid(
                        f"{where} QueryParam[{at}] should only contain one of Present, Exact, or Regex"
                    )
            _check_methods(http, where + " ")
        destination = route["Destination"]
        if destination and destination["PrefixRewrite"] and not rewritable:
            raise Invalid(
                f"{where} cannot make use of PrefixRewrite without configuring either PathExact or PathPrefix"
            )


def _check_paths(http: Entry, where: str) -> None:
    for way in ("PathExact", "PathPrefix"):
        if http[way] and not http[way].startswith("/"):
            raise Invalid(f"{where}{way} doesn't start with '/': {quote(http[way])}")
    if sum(bool(http[way]) for way in ("PathExact", "PathPrefix", "PathRegex")) > 1:
        raise Invalid(
            f"{where.rstrip('.')}{'' if where.endswith(' ') else ' '}"
            "should only contain at most one of PathExact, PathPrefix, or PathRegex"
        )


def _check_headers(http: Entry, where: str) -> None:
    for at, header in enumerate(rows(http, "Header")):
        if not header["Name"]:
            raise Invalid(f"{where}Header[{at}] missing required Name field")
        if sum(bool(header[way]) for way in ("Present", "Exact", "Regex", "Prefix", "Suffix")) != 1:
            raise Invalid(
                f"{where}Header[{at}] should only contain one of Present, Exact, Prefix, Suffix, or Regex"
            )


def _check_methods(http: Entry, where: str) -> None:
    seen: set[str] = set()
    for method in http["Methods"] or ():
        if method not in _METHODS:
            raise Invalid(f"{where}Methods contains an invalid method {quote(method)}")
        if method in seen:
            raise Invalid(f"{where}Methods contains {quote(method)} more than once")
        seen.add(method)


def _splitter(entry: Entry) -> None:
    _named(entry)
    splits = list(rows(entry, "Splits"))
    if not splits:
        raise Invalid("no splits configured")
    seen = set()
    for split in splits:
        target = (split["Service"] or entry["Name"], split["ServiceSubset"], split["Namespace"])
        if target in seen:
            service, subset, namespace = map(quote, target)
            raise Invalid(
                f"split destination occurs more than once: service={service}, subset={subset}, "
                f"namespace={namespace}"
            )
        seen.add(target)
    total = sum(_scaled(split["Weight"]) for split in splits)
    if total != 100 * 100:
        raise Invalid(f"the sum of all split weights must be 100, not {total / 100:f}")


def _resolver(entry: Entry) -> None:
    _named(entry)
    subsets = entry["Subsets"] or {}
    for name, subset in subsets.items():
        _check_subset(name, subset)
    if entry["DefaultSubset"] and entry["DefaultSubset"] not in subsets:
        raise Invalid(f"DefaultSubset {quote(entry['DefaultSubset'])} is not a valid subset")
    if entry["Redirect"] is not None:
        _check_redirect(entry, subsets)
    for name, failover in (entry["Failover"] or {}).items():
        where = f"Bad Failover[{quote(name)}]"
        if name != "*" and name not in subsets:
            raise Invalid(f"{where}: not a valid subset")
        target = [failover["Service"], failover["ServiceSubset"], failover["Namespace"]]
        if not any(target) and not failover["Datacenters"]:
            raise Invalid(f"{where} one of Service, ServiceSubset, Namespace, or Datacenters is required")
        if failover["Service"] in ("", entry["Name"]) and target[1] and target[1] not in subsets:
            service = quote(failover["Service"])
            raise Invalid(f"{where}.ServiceSubset {quote(target[1])} is not a valid subset of {service}")
        if "" in (failover["Datacenters"] or ()):
            raise Invalid(f"{where}.Datacenters: found empty datacenter")
    if entry["ConnectTimeout"] < 0:
        raise Invalid(f"Bad ConnectTimeout '{duration.show(entry['ConnectTimeout'])}', must be >= 0")
    if entry["LoadBalancer"] is not None:
        _check_balancer(entry["LoadBalancer"])


def _check_subset(name: str, subset: Entry) -> None:
    if not name:
        raise Invalid("Subset defined with empty name")
    plain = name.replace("-", "a")
    if (
        not (plain.isascii() and plain.isalnum() and plain == plain.lower())
        or name[0] == "-"
        or name[-1] == "-"
    ):
        raise Invalid(
            f"Subset {quote(name)} is invalid: must be lowercase alphanumeric or '-', and begin and end "
            "alphanumeric"
        )
    if subset["Filter"]:
        try:
            filter.compile(subset["Filter"], "check_service_node")
        except Invalid as error:
            raise Invalid(f"Filter for subset {quote(name)} is not a valid expression: {error}") from None


def _check_redirect(entry: Entry, subsets: Entry) -> None:
    redirect = entry["Redirect"]
    if entry["Failover"]:
        raise Invalid("Redirect and Failover cannot both be set")
    if not any(redirect.values()):
        raise Invalid("Redirect is empty")
    for field in ("ServiceSubset", "Namespace"):
        if redirect[field] and not redirect["Service"]:
            raise Invalid(f"Redirect.{field} defined without Redirect.Service")
    subset = redirect["ServiceSubset"]
    if subset and redirect["Service"] == entry["Name"] and subset not in subsets:
        raise Invalid(
            f"Redirect.ServiceSubset {quote(subset)} is not a valid subset of {quote(entry['Name'])}"
        )


def _check_balancer(balancer: Entry) -> None:
    policy = balancer["Policy"]
    if policy not in _POLICIES:
        raise Invalid(f"Bad LoadBalancer policy: {quote(policy)} is not supported")
    for config, fitting in (("RingHashConfig", "ring_hash"), ("LeastRequestConfig", "least_request")):
        if balancer[config] is not None and policy != fitting:
            raise Invalid(
                f"Bad LoadBalancer configuration. {config} specified for incompatible load balancing policy "
                f"{quote(policy)}"
            )
    if balancer["HashPolicies"] and policy not in _HASHED:
        raise Invalid(
            "Bad LoadBalancer configuration: HashPolicies specified for non-hash-based Policy: "
            f"{quote(policy)}"
        )
    for number, one in enumerate(rows(balancer, "HashPolicies")):
        fault = _hash_fault(one)
        if fault:
            raise Invalid(f"Bad LoadBalancer HashPolicy[{number}]: {fault}")


def _hash_fault(policy: Entry) -> str:
    field, cookie = policy["Field"], policy["CookieConfig"]
    if field not in ("", "header", "cookie", "query_parameter"):
        return f"{quote(field)} is not a supported field"
    if policy["SourceIP"] and field:
        return f"A single hash policy cannot hash both a source address and a {quote(field)}"
    if policy["SourceIP"] and policy["FieldValue"]:
        return "A FieldValue cannot be specified when hashing SourceIP"
    if field and not policy["FieldValue"]:
        return f"Field {quote(field)} was specified without a FieldValue"
    if policy["FieldValue"] and not field:
        return "FieldValue requires a Field to apply to"
    if cookie is not None and field != "cookie":
        return f"cookie_config provided for {quote(field)}"
    if cookie is not None and cookie["Session"] and cookie["TTL"]:
        return "a session cookie cannot have an associated TTL"
    return ""


def _ingress(entry: Entry) -> None:
    ports: set[int] = set()
    for listener in rows(entry, "Listeners"):
        port, protocol = listener["Port"], listener["Protocol"]
        here = f"(listener on port {port})"
        services = list(rows(listener, "Services"))
        if port in ports:
            raise Invalid(f"port {port} declared on two listeners")
        ports.add(port)
        if protocol != "tcp" and protocol not in ROUTABLE:
            raise Invalid(
                f"protocol must be 'tcp', 'http', 'http2', or 'grpc'. '{protocol}' is an unsupported protocol"
            )
        if not services:
            raise Invalid(f"No service declared for listener with port {port}")
        if protocol == "tcp" and len(services) > 1:
            raise Invalid(
                "Multiple services per listener are only supported for L7 protocols, 'http', 'grpc' and "
                f"'http2' {here}"
            )
        _check_exposed(services, protocol, entry["TLS"]["Enabled"], here)


def _check_exposed(services: list[Entry], protocol: str, tls: bool, here: str) -> None:
    names: set[str] = set()
    hosts: set[str] = set()
    for service in services:
        name, own = service["Name"], service["Hosts"] or []
        if protocol == "tcp" and name == "*":
            raise Invalid(f"Wildcard service name is only valid for protocol = 'http' {here}")
        if protocol == "tcp" and own:
            raise Invalid(f"Associating hosts to a service is not supported for the tcp protocol {here}")
        if not name:
            raise Invalid(f"Service name cannot be blank {here}")
        if name == "*" and own:
            raise Invalid(f"Associating hosts to a wildcard service is not supported {here}")
        if name in names:
            raise Invalid(f"Service {name} cannot be added multiple times {here}")
        names.add(name)
        for host in own:
            if host in hosts:
                raise Invalid(f"Hosts must be unique within a specific listener {here}")
            hosts.add(host)
            _check_host(host, tls)


def _check_host(host: str, tls: bool) -> None:
    if host == "*":
        if tls:
            raise Invalid(
                "Host '*' is not allowed when TLS is enabled, all hosts must be valid DNS records to add "
                "as a DNSSAN"
            )
        return
    labels = host.removesuffix(".").split(".")
    if len(host) > 254 or not all(0 < len(label) <= 63 for label in labels):
        raise Invalid(f"Host {quote(host)} must be a valid DNS hostname")
    if "*" in host.removeprefix("*."):
        raise Invalid(
            f"Host {quote(host)} is not valid, a wildcard specifier is only allowed as the leftmost label"
        )


def _terminating(entry: Entry) -> None:
    seen: set[str] = set()
    for service in rows(entry, "Services"):
        name = service["Name"]
        if not name:
            raise Invalid("Service name cannot be blank.")
        if name in seen:
            raise Invalid(f"Service {quote(name)} was specified more than once within a namespace")
        seen.add(name)
        files = [service["CAFile"], service["CertFile"], service["KeyFile"]]
        if (files[1] or files[2]) and not all(files):
            raise Invalid(
                f"Service {quote(name)} must have a CertFile, CAFile, and KeyFile specified for TLS "
                "origination"
            )


def _intentions(entry: Entry) -> None:
    _named(entry)
    fault = _wildcard_fault(entry["Name"])
    if fault:
        raise Invalid(fault)
    sources = list(rows(entry, "Sources"))
    if not sources:
        raise Invalid("At least one source is required")
    seen: set[str] = set()
    for number, source in enumerate(sources):
        where, name = f"Sources[{number}]", source["Name"]
        fault = _source_fault(source, entry["Name"] == "*")
        if fault:
            raise Invalid(f"{where}.{fault}")
        for at, permission in enumerate(rows(source, "Permissions")):
            _check_permission(permission, f"{where}.Permissions[{at}]")
        if name in seen:
            raise Invalid(f"{where} defines {quote(name)} more than once")
        seen.add(name)


def _wildcard_fault(name: str) -> str:
    partial = name != "*" and "*" in name
    return "Name: wildcard character '*' cannot be used with partial values" if partial else ""


def _source_fault(source: Entry, to_all: bool) -> str:
    if not source["Name"]:
        return "Name is required"
    if fault := _wildcard_fault(source["Name"]):
        return fault
    if len(source["Description"]) > _META_VALUE:
        return f"Description exceeds maximum length {_META_VALUE}"
    if source["LegacyMeta"]:
        return "LegacyMeta must be omitted"
    if not source["Permissions"] and source["Action"] not in _ACTIONS:
        return "Action must be set to 'allow' or 'deny'"
    if source["Permissions"] and source["Action"]:
        return "Action must be omitted if Permissions are specified"
    if source["Permissions"] and to_all:
        return "Permissions cannot be specified on intentions with wildcarded destinations"
    return "" if source["Type"] == "consul" else "Type must be set to 'consul'"


def _check_permission(permission: Entry, where: str) -> None:
    if permission["Action"] not in _ACTIONS:
        raise Invalid(f"{where}.Action must be set to 'allow' or 'deny'")
    http = permission["HTTP"]
    if http is None:
        raise Invalid(f"{where}.HTTP is required")
    _check_paths(http, f"{where}.HTTP.")
    _check_headers(http, f"{where}.HTTP.")
    _check_methods(http, f"{where}.HTTP.")
    if not any(http.values()):
        raise Invalid(f"{where}.HTTP should not be empty")


_RULES: dict[str, Callable[[Entry], None]] = {
    "service-defaults": _service_defaults,
    "proxy-defaults": _nothing,
    "service-router": _router,
    "service-splitter": _splitter,
    "service-resolver": _resolver,
    "ingress-gateway": _ingress,
    "terminating-gateway": _terminating,
    "service-intentions": _intentions,
}
