"""Gossip keys are changed everywhere by a query: what each node does, and what the asking one makes of the
answers (protocols/gossip.md 7.7)."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Callable

from msgspec import Struct, field, structs

from core.codec import gobase64
from core.codec.msgpack import DecodeError
from core.errors import Invalid
from core.gossip.keyring import Keyring, KeyringError
from core.gossip.serf_messages import KEY_RESPONSE, KeyRequest, KeyResponse, decode, decode_as

INSTALL, USE, REMOVE, LIST = "install", "use", "remove", "list"
QUERY_NAMES = {
    INSTALL: "_serf_install-key",
    USE: "_serf_use-key",
    REMOVE: "_serf_remove-key",
    LIST: "_serf_list-keys",
}
_MOST_LISTED = 40
_NO_KEYRING = "No keyring to modify (encryption not enabled)"
_EMPTY_KEYRING = "Keyring is empty (encryption not enabled)"


def operate(keyring: Keyring | None, operation: str, payload: bytes) -> KeyResponse:
    """Do what a key query asks of this node."""
    if keyring is None:
        return KeyResponse(message=_EMPTY_KEYRING if operation == LIST else _NO_KEYRING)
    if operation == LIST:
        keys = [_shown(key) for key in keyring.keys]
        return KeyResponse(True, keys=keys, primary_key=_shown(keyring.primary))
    try:
        request = decode_as(KeyRequest, memoryview(payload)[1:])
        change = {INSTALL: keyring.add, USE: keyring.use, REMOVE: keyring.remove}[operation]
        change(request.key or b"")
    except (DecodeError, KeyringError) as error:
        return KeyResponse(message=str(error))
    return KeyResponse(True)


def shortened(response: KeyResponse, fits: Callable[[KeyResponse], bool]) -> KeyResponse:
    """The response with as many keys as fit."""
    keys = response.keys or []
    for count in range(min(len(keys), _MOST_LISTED + 1), -1, -1):
        if fits(response):
            break
        message = f"truncated key list response, showing first {count} of {len(keys)} keys"
        response = structs.replace(response, keys=keys[:count], message=message)
    return response


def key_from_text(text: str) -> bytes:
    """A key in base64. Invalid."""
    try:
        return gobase64.decode(text)
    except ValueError as error:
        raise Invalid(str(error)) from None


def _shown(key: bytes) -> str:
    return b64encode(key).decode("ascii")


class KeyResult(Struct):
    """The outcome of a key operation on `nodes` members; `error` is the reference's text, `` for success."""

    nodes: int
    messages: dict[str, str] = field(default_factory=dict)  # by node
    keys: Counter[str] = field(default_factory=Counter)
    primary_keys: Counter[str] = field(default_factory=Counter)
    answers: int = 0
    failures: int = 0

    @property
    def complete(self) -> bool:
        """All have answered."""
        return self.answers >= self.nodes

    @property
    def error(self) -> str:
        if self.failures:
            return f"{self.failures}/{self.nodes} nodes reported failure"
        if self.answers != self.nodes:
            return f"{self.answers}/{self.nodes} nodes reported success"
        return ""

    def add(self, source: str, payload: bytes) -> None:
        """What one node answered."""
        self.answers += 1
        if payload[:1] != bytes((KEY_RESPONSE,)):
            self._failed(source, f"Invalid key query response type: {list(payload)}")
            return
        try:
            response = decode(payload)
        except DecodeError as error:
            self._failed(source, f"Failed to decode key query response: {error}")
            return
        assert isinstance(response, KeyResponse)
        if not response.result:
            self._failed(source, response.message)
        elif response.message:
            self.messages[source] = response.message
        if response.result:
            self.keys.update(response.keys or [])
            if response.primary_key:
                self.primary_keys[response.primary_key] += 1

    def _failed(self, source: str, message: str) -> None:
        self.failures += 1
        self.messages[source] = message
