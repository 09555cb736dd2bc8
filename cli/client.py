"""Where the agent is and how to ask it: Unix socket, TCP or TLS, with Go's texts when that fails.

Order of every setting: flag, `CTL_*`, `CONSUL_*`, default (reference/cli.md section 4.4). With no
address given the agent's own socket is tried first, then 127.0.0.1:8500."""

from __future__ import annotations

import _socket
import os
import sys
import time

from cli.command import Failure, Usage
from cli.wire import BadReply, Closed, Connection, decode_json, escape_path, query_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from cli.wire import Query, Stream

DEFAULT_ADDRESS = "127.0.0.1:8500"
DIAL_TIMEOUT = 30.0


class TransportError(Failure):
    """The request got no usable answer. The text is Go's without the command's own words."""

    def within(self, words: str) -> Failure:
        """The same failure in a command's own words."""
        return Failure(f"{words}: {self}", kind=self.kind, hint=self.hint)


class ConnectError(Usage):
    """The settings make no connection: told in the words of the command that wanted one."""


class ServerError(TransportError):
    """The agent answered with a status that means failure."""

    def __init__(self, status: int, body: str) -> None:
        kind = {403: "denied", 404: "missing", 409: "conflict"}.get(status, "")
        super().__init__(f"Unexpected response code: {status} ({body})", kind=kind)
        self.response_status = status
        self.body = body


class Response:
    """A whole reply."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    @property
    def index(self) -> int:
        """X-Consul-Index, 0 when absent."""
        text = self.headers.get("x-consul-index", "")
        return int(text) if text.isascii() and text.isdigit() else 0

    def json(self) -> Any:
        """The decoded body. TransportError when it is no JSON."""
        try:
            return decode_json(self.body)
        except ValueError as error:
            raise TransportError(f"the answer is not JSON: {error}") from None

    def checked(self) -> Response:
        """Itself, or ServerError unless the status is 200."""
        if self.status != 200:
            raise ServerError(self.status, self.text)
        return self


class Place:
    """A parsed address. `unix` is a socket path, else `host` and `port` count."""

    __slots__ = ("host", "port", "prefix", "tls", "unix")

    def __init__(self, text: str) -> None:
        """Usage when `text` is no address."""
        self.tls, self.unix, self.prefix = False, "", ""
        scheme, separator, rest = text.partition("://")
        if not separator:
            scheme, rest = "http", text
        if scheme == "unix":
            self.unix, self.host, self.port = rest, "unix", 0
            return
        if scheme not in ("http", "https"):
            raise ConnectError(f"Unknown protocol scheme: {scheme}")
        self.tls = scheme == "https"
        address, _, prefix = rest.partition("/")
        self.prefix = "/" + prefix.rstrip("/") if prefix else ""
        host, colon, port = address.rpartition(":")
        if not colon or port.endswith("]"):
            host, port = address, "443" if self.tls else "80"
        if not (port.isascii() and port.isdigit() and int(port) < 65536):
            raise Usage(f"Error: invalid port in address: {text}")
        self.host, self.port = host.strip("[]") or "127.0.0.1", int(port)

    @property
    def authority(self) -> str:
        """Host and port as they stand in a URL."""
        if self.unix:
            return "unix"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        authority = self.unix.replace("/", "%2F") if self.unix else self.authority
        return f"{'https' if self.tls else 'http'}://{authority}{self.prefix}"


class Client:
    """Asks one agent. `flags` are the values of the common flags that were given."""

    def __init__(self, flags: Mapping[str, object], environ: Mapping[str, str] | None = None) -> None:
        self._flags = flags
        self._environ = os.environ if environ is None else environ
        self._connection: Connection | None = None
        self.deadline: float | None = None  # bounds all requests from here on (monotonic seconds)
        self.wakeup = -1  # see Connection
        self.place = self._choose_place()
        self._headers = self._fixed_headers()

    def setting(self, flag: str, variable: str) -> str:
        """A setting by its order: flag, CTL_ variable, CONSUL_ variable; `` when none is set."""
        given = self._flags.get(flag)
        if given:
            return str(given)
        environ = self._environ
        return environ.get("CTL_" + variable) or environ.get("CONSUL_" + variable) or ""

    # requests

    def request(
        self,
        method: str,
        path: str,
        query: Query = (),
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """One exchange. TransportError when no reply came; any status is a reply."""
        used_before = self._connection is not None
        try:
            status, fields, connection = self._exchange(method, path, query, body, headers)
            content = connection.read_body(fields)
        except OSError as error:
            if used_before and method == "GET" and not isinstance(error, TimeoutError):
                return self.request(method, path, query, body, headers)  # it was closed while idle
            raise self._no_answer(method, path, query, error) from None
        if not connection.reusable:
            self.close()
        return Response(status, fields, content)

    def get(self, path: str, query: Query = ()) -> Response:
        return self.request("GET", path, query)

    def put(self, path: str, query: Query = (), body: bytes = b"") -> Response:
        return self.request("PUT", path, query, body)

    def stream(self, path: str, query: Query = (), method: str = "GET", body: bytes = b"") -> Iterator[bytes]:
        """The body of an answer as it arrives; ServerError at once unless the status is 200."""
        try:
            status, fields, connection = self._exchange(method, path, query, body, None)
            if status != 200:
                raise ServerError(status, connection.read_body(fields).decode("utf-8", "replace"))
        except OSError as error:
            raise self._no_answer(method, path, query, error) from None
        return connection.pieces(fields)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def peer_pid(self) -> int:
        """Process id at the other end of a Unix socket, 0 when it cannot be known."""
        connection = self._connect()
        if not self.place.unix or not isinstance(connection.stream, _socket.socket):
            return 0
        option = getattr(_socket, "SO_PEERCRED", None)
        if option is None:
            return 0
        raw = connection.stream.getsockopt(_socket.SOL_SOCKET, option, 12)
        return int.from_bytes(raw[:4], sys.byteorder)

    def _exchange(
        self, method: str, path: str, query: Query, body: bytes, headers: Mapping[str, str] | None
    ) -> tuple[int, dict[str, str], Connection]:
        connection = self._connect()
        target = self.place.prefix + escape_path(path) + query_text(query)
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.place.authority}", *self._headers]
        if headers:
            lines += [f"{name}: {value}" for name, value in headers.items()]
        if body or method in ("PUT", "POST"):
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join(lines) + "\r\n\r\n"
        try:
            connection.send(head.encode("latin-1", "replace"), body)
        except (BrokenPipeError, ConnectionResetError):
            connection.reusable = False  # it may have answered (413) before it stopped reading
        try:
            status, fields = connection.read_head()
        except OSError:
            self.close()
            raise
        return status, fields, connection

    def _no_answer(self, method: str, path: str, query: Query, error: OSError) -> TransportError:
        self.close()
        url = self.place.url + escape_path(path) + query_text(query)
        verb = method.capitalize()
        return TransportError(f'{verb} "{url}": {_reason(error)}', kind="unreachable", hint=_hint(error))

    # connection

    def _connect(self) -> Connection:
        if self._connection is not None:
            if not _closed(self._connection):
                return self._configured(self._connection)
            self.close()
        self._connection = Connection(self._dial())
        return self._configured(self._connection)

    def _configured(self, connection: Connection) -> Connection:
        connection.deadline, connection.wakeup = self.deadline, self.wakeup
        return connection

    def _dial(self) -> Stream:
        place = self.place
        timeout = DIAL_TIMEOUT
        if self.deadline is not None:
            timeout = max(0.001, min(timeout, self.deadline - time.monotonic()))
        if place.unix:
            return dial_unix(place.unix, timeout)
        raw = dial_tcp(place.host, place.port, timeout)
        if not place.tls:
            return raw
        from cli.tls import wrap

        return wrap(raw, place.host, self.setting, timeout)

    def _choose_place(self) -> Place:
        use_tls = boolean(self.setting("", "HTTP_SSL"), "HTTP_SSL", default=False)
        text = self.setting("http-addr", "HTTP_ADDR")
        if text:
            place = Place(text)
            place.tls = place.tls or (use_tls and not place.unix)
            return place
        place = Place(DEFAULT_ADDRESS)
        place.tls = use_tls
        if use_tls:
            return place
        for path in socket_paths(self._environ):
            try:
                stream = dial_unix(path, 2.0)
            except OSError:
                continue  # stale or absent: somebody else may answer on TCP
            self._connection = Connection(stream)
            return Place("unix://" + path)
        return place

    def _token(self) -> str:
        """The ACL secret: by flag, then CTL_*, then CONSUL_*; in each a file goes before the text itself."""
        flags, environ = self._flags, self._environ
        for path, text in (
            (flags.get("token-file"), flags.get("token")),
            (environ.get("CTL_HTTP_TOKEN_FILE"), environ.get("CTL_HTTP_TOKEN")),
            (environ.get("CONSUL_HTTP_TOKEN_FILE"), environ.get("CONSUL_HTTP_TOKEN")),
        ):
            if path:
                return _read_token(str(path))
            if text:
                return str(text)
        return ""

    def _fixed_headers(self) -> list[str]:
        lines = ["User-Agent: ctl"]
        token = self._token()
        if token:
            if not token.isprintable():
                raise Usage("Error: the token contains characters that cannot be sent")
            lines.append(f"X-Consul-Token: {token}")
        credentials = self.setting("", "HTTP_AUTH")
        if credentials:
            import binascii

            pair = credentials if ":" in credentials else credentials + ":"
            encoded = binascii.b2a_base64(pair.encode("utf-8", "surrogateescape"), newline=False)
            lines.append("Authorization: Basic " + encoded.decode("ascii"))
        return lines


def _read_token(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError as error:
        raise ConnectError(f"Error loading token file: {reading(path, error)}") from None
    except UnicodeDecodeError:
        raise ConnectError(f"Error loading token file: read {path}: it is not UTF-8 text") from None


def socket_paths(environ: Mapping[str, str]) -> list[str]:
    """Sockets that a local agent of this user or of root may listen on, likeliest first.

    The places are those of platformdirs' user_runtime_path("ctl") in its versions; importing it would
    cost 25 ms. A socket that a third user owns is not trusted."""
    given = environ.get("CTL_SOCKET")
    if given:
        return [given.removeprefix("unix://")]
    uid = os.getuid()
    folders = [environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{uid}", f"/var/run/user/{uid}"]
    temporary = environ.get("TMPDIR") or "/tmp"
    folders += [f"{temporary}/runtime-{uid}", f"/tmp/run/user/{uid}", "/run"]
    if sys.platform == "darwin":
        folders.insert(0, environ.get("HOME", "") + "/Library/Caches/TemporaryItems")
    paths = []
    for folder in folders:
        path = folder + "/ctl/ctl.sock"
        try:
            owner = os.stat(path).st_uid
        except OSError:
            continue
        if folder and owner in (uid, 0):
            paths.append(path)
    return paths


class DialError(OSError):
    """No connection could be made. The text is Go's, from `dial` on."""


def dial_unix(path: str, timeout: float) -> _socket.socket:
    """A connection to the socket at `path`. DialError when there is none."""
    stream = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        stream.settimeout(timeout)
        stream.connect(path)
    except OSError as error:
        stream.close()
        raise DialError(f"dial unix {path}: connect: {error_text(error)}") from None
    stream.settimeout(None)
    return stream


def dial_tcp(host: str, port: int, timeout: float) -> _socket.socket:
    """A connection to the first address of `host` that takes one. DialError when none does."""
    if host.replace(".", "").isdigit():
        addresses: list[tuple[int, Any]] = [(_socket.AF_INET, (host, port))]
    else:
        try:
            entries = _socket.getaddrinfo(host, port, 0, _socket.SOCK_STREAM)
        except OSError:
            raise DialError(f"dial tcp: lookup {host}: no such host") from None
        addresses = [(entry[0], entry[4]) for entry in entries]
    failure = DialError(f"dial tcp: lookup {host}: no such host")
    for family, address in addresses:
        stream = _socket.socket(family, _socket.SOCK_STREAM)
        try:
            stream.settimeout(timeout)
            stream.connect(address)
        except OSError as error:
            stream.close()
            shown = f"[{address[0]}]" if ":" in address[0] else address[0]
            step = "" if isinstance(error, TimeoutError) else "connect: "
            failure = DialError(f"dial tcp {shown}:{port}: {step}{error_text(error)}")
            continue
        stream.settimeout(None)
        stream.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        stream.setsockopt(_socket.SOL_SOCKET, _socket.SO_KEEPALIVE, 1)
        return stream
    raise failure


def error_text(error: OSError) -> str:
    """An operating system error in Go's words, which are the C library's in lower case."""
    if isinstance(error, TimeoutError):
        return "i/o timeout"
    if error.errno is None:
        return str(error)
    text = os.strerror(error.errno)
    return text[:1].lower() + text[1:]


def reading(path: str, error: OSError) -> str:
    """Why a file gave nothing, in Go's words: a directory can be opened there, and not read."""
    verb = "read" if isinstance(error, IsADirectoryError) else "open"
    return f"{verb} {path}: {error_text(error)}"


def boolean(text: str, name: str, *, default: bool) -> bool:
    """A boolean environment variable as Go's strconv.ParseBool reads it."""
    if not text:
        return default
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise Usage(f'Error: could not parse {name}: strconv.ParseBool: parsing "{text}": invalid syntax')


def _reason(error: OSError) -> str:
    if isinstance(error, DialError | Closed | BadReply):
        return str(error)
    return f"read: {error_text(error)}" if not isinstance(error, TimeoutError) else error_text(error)


def _hint(error: OSError) -> str:
    return "Is the agent running? `ctl agent start --dev` starts one." if isinstance(error, DialError) else ""


def _closed(connection: Connection) -> bool:
    """Whether an idle connection has been closed by the other side (or talks out of turn)."""
    import select

    return bool(select.select([connection.stream.fileno()], [], [], 0)[0])
