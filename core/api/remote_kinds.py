"""The kinds of RPC methods: reads with query options and meta, writes, errands.

    caller: request(work) -> body        server: accept(body) -> work
            answer(reply) <- reply               reply(outcome) -> reply

Bodies and replies are maps that `core/codec/msgpack.py` takes and gives; what each of them holds is said
by a struct of `remote_structs`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from msgspec import Struct, structs

from core.api.endpoint import (
    Action,
    Answer,
    Command,
    Errand,
    QueryOptions,
    Question,
    Read,
    Reply,
    Write,
)
from core.api.remote_structs import DatacenterRead, ReadReply
from core.codec import msgpack, wire
from core.codec.msgpack import DecodeError
from core.errors import Unavailable
from core.node.wan import NO_PATH

Work = Question | Command | Errand

FILTERED = "ResultsFilteredByACLs"  # of newer servers' query meta
_PIECE = 64  # items of a long list that are encoded at a stretch


class Remote(Protocol):
    """One method."""

    @property
    def rpc(self) -> str:
        """Its name: `KVS.Get`."""

    def request(self, work: Any, datacenter: str) -> Any:
        """The body that asks for `work`, in `datacenter` unless it names another one."""

    def accept(self, body: Any) -> Work:
        """What a decoded body asks for. DecodeError, or the CtlError that answers it."""

    def reply(self, outcome: Any) -> Any:
        """The reply to a call whose outcome is an Answer, or what a command or errand gave."""

    def answer(self, reply: Any) -> Any:
        """The outcome in a decoded reply: what the same work would have given here. Unavailable when the
        reply makes no sense."""


def unrendered(_: Any) -> Reply:
    """How work is rendered that came in over RPC: not at all, its outcome travels on."""
    raise AssertionError("an outcome for RPC has no HTTP form")


def here(datacenter: str) -> str:
    """The datacenter of a request. Unavailable when it names none."""
    if not datacenter:
        raise Unavailable(NO_PATH)
    return datacenter


def understood(rpc: str, decode: Callable[[Any], Any], reply: Any) -> Any:
    """What `decode` makes of a reply."""
    try:
        return decode(reply)
    except DecodeError as error:
        raise Unavailable(f"rpc error making call: {rpc}: {error}") from None


B = TypeVar("B", bound=DatacenterRead)
R = TypeVar("R", bound=ReadReply)
S = TypeVar("S", bound=Struct)


def with_filtered(outcome: Answer, reply: dict[str, Any]) -> dict[str, Any]:
    """A reply that says whether ACLs hide part of it. Consul 1.9 has no such field and skips it."""
    return dict(sorted({**reply, FILTERED: True}.items())) if outcome.filtered else reply


def was_filtered(reply: dict[bytes, Any]) -> bool:
    """Whether a decoded reply says so."""
    return reply.get(FILTERED.encode()) is True


def _packed(item: Any) -> bytes:
    return wire.pack(item) if isinstance(item, Struct) else msgpack.encode(item)


class ReadRemote(Generic[B, R]):
    """A read: query options on the way there, query meta on the way back."""

    def __init__(
        self,
        read: Read,
        body: type[B],
        fields: Callable[[Any], dict[str, Any]],
        args: Callable[[B], Any],
        reply: type[R],
        shown: Callable[[Any], dict[str, Any]],
        value: Callable[[R], Any],
        indexed: bool = True,
    ) -> None:
        """`fields` and `args` go from the arguments to attributes of the body and back, `shown` and `value`
        from the answer's value to attributes of the reply and back. `indexed`: its index is never 0."""
        self.rpc = read.rpc
        self._lowest = 1 if indexed else 0
        self.body, self.reply_type = body, reply
        self._read = read
        self._fields, self._args = fields, args
        self._shown, self._value = shown, value

    def request(self, work: Question, datacenter: str) -> dict[str, Any]:
        options = work.options
        body = self.body(
            token=options.token,
            min_query_index=options.min_query_index,
            max_query_time=options.max_query_time,
            allow_stale=options.allow_stale,
            require_consistent=options.require_consistent,
            use_cache=options.use_cache,
            max_stale_duration=options.max_stale_duration,
            filter=options.filter,
            datacenter=options.datacenter or datacenter,
            **self._fields(work.args),
        )
        return wire.to_wire(body)

    def accept(self, body: Any) -> Question:
        asked = wire.from_wire(self.body, body)
        options = QueryOptions(
            token=asked.token,
            datacenter=here(asked.datacenter),
            min_query_index=asked.min_query_index,
            max_query_time=asked.max_query_time,
            allow_stale=asked.allow_stale,
            require_consistent=asked.require_consistent,
            max_stale_duration=asked.max_stale_duration,
            filter=asked.filter,
        )
        return Question(self._read, self._args(asked), options, unrendered)

    def reply(self, outcome: Answer) -> dict[str, Any]:
        return with_filtered(outcome, wire.to_wire(self._reply(outcome)))

    def _reply(self, outcome: Answer) -> R:
        return self.reply_type(
            index=max(outcome.index, self._lowest),
            last_contact=outcome.last_contact,
            known_leader=outcome.known_leader,
            **self._shown(outcome.value),
        )

    def pieces(self, outcome: Answer) -> Iterator[bytes]:
        """The bytes of the reply to a question whose answer is a long list, piece by piece, so that others
        may have a turn in between."""
        reply = self._reply(outcome)
        lists = {
            field.encode_name: (field.name, value)
            for field in structs.fields(reply)
            if type(value := getattr(reply, field.name)) is list
        }
        shell = wire.to_wire(structs.replace(reply, **{name: None for name, _ in lists.values()}))
        rest = with_filtered(outcome, shell)
        yield msgpack.map_header(len(rest))
        for name, value in rest.items():
            yield msgpack.encode(name)
            if name not in lists:
                yield msgpack.encode(value)
                continue
            items = lists[name][1]
            yield msgpack.list_header(len(items))
            for start in range(0, len(items), _PIECE):
                yield b"".join(map(_packed, items[start : start + _PIECE]))

    def answer(self, reply: Any) -> Answer:
        return understood(self.rpc, self._answer, reply)  # type: ignore[no-any-return]

    def _answer(self, reply: Any) -> Answer:
        came = wire.from_wire(self.reply_type, reply)
        return Answer(
            came.index,
            self._value(came),
            remember=False,
            last_contact=came.last_contact,
            known_leader=came.known_leader,
            filtered=was_filtered(reply),
        )


class WriteRemote(Generic[S]):
    """A write whose arguments travel as they are: a struct with `datacenter`."""

    def __init__(
        self,
        write: Write,
        body: type[S],
        shown: Callable[[Any], Any],
        value: Callable[[Any], Any],
    ) -> None:
        """`shown` and `value` go from the result to the reply and back."""
        self.rpc = write.rpc
        self.body = body
        self._write = write
        self._shown, self._value = shown, value

    def request(self, work: Command, datacenter: str) -> dict[str, Any]:
        fields = wire.to_wire(work.args)
        fields["Datacenter"] = work.datacenter or fields["Datacenter"] or datacenter
        return fields

    def accept(self, body: Any) -> Command:
        args: Any = wire.from_wire(self.body, body)
        return Command(self._write, args, unrendered, here(args.datacenter))

    def reply(self, outcome: Any) -> Any:
        return self._shown(outcome)

    def answer(self, reply: Any) -> Any:
        return understood(self.rpc, self._value, reply)


class ActionRemote(Generic[S]):
    """An errand. Without `datacenter` in its body it is for the server that was asked."""

    def __init__(
        self,
        action: Action,
        body: type[S],
        fields: Callable[[Any], dict[str, Any]],
        args: Callable[[S], Any],
        shown: Callable[[Any], Any],
        value: Callable[[Any], Any],
        needs_datacenter: bool = True,
        forwarded: bool = True,
    ) -> None:
        """`fields` and `args` go from the arguments to attributes of the body and back, `shown` and `value`
        from the result to the reply and back. A body with a datacenter must have one filled in, unless
        `needs_datacenter` is False. Not `forwarded`: whatever datacenter it names, it is for who is asked."""
        self.rpc = action.rpc
        self._needs_datacenter = needs_datacenter and forwarded
        self._forwarded = forwarded
        self.body = body
        self._action = action
        self._fields, self._args = fields, args
        self._shown, self._value = shown, value
        self._names = set(body.__struct_fields__)

    def request(self, work: Errand, datacenter: str) -> dict[str, Any]:
        fields = self._fields(work.args)
        if "datacenter" in self._names:
            fields["datacenter"] = work.datacenter or fields.get("datacenter") or datacenter
        if "token" in self._names:
            fields["token"] = work.token or fields.get("token", "")
        return wire.to_wire(self.body(**fields))

    def accept(self, body: Any) -> Errand:
        asked: Any = wire.from_wire(self.body, body)
        datacenter = asked.datacenter if self._forwarded and "datacenter" in self._names else ""
        if self._needs_datacenter and "datacenter" in self._names:
            here(datacenter)
        token = asked.token if "token" in self._names else ""
        return Errand(self._action, self._args(asked), unrendered, datacenter, token)

    def reply(self, outcome: Any) -> Any:
        return self._shown(outcome)

    def answer(self, reply: Any) -> Any:
        return understood(self.rpc, self._value, reply)
