"""Messages to bytes and back (RFC 1035 section 4, RFC 6891 for EDNS).

Written here and not with a library: replies are packed in bulk while users wait (a reply of eight
SRV records takes a tenth of the time), cutting needs the exact length, and pointers must stop at 16 KiB."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import ip_address
from random import Random

from msgspec import Struct

from core.dns import record as rr
from core.dns.answer import Entry, Reply
from core.dns.record import Record
from core.dns.settings import DnsSettings

_HEADER = struct.Struct(">HHHHHH")
_FIXED = struct.Struct(">HHIH")  # type, class, TTL, length of the data
_TWO = struct.Struct(">HH")

QR, AA, TC, RD, RA, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0010
_OPCODE = 0x7800

PLAIN_SIZE = 512  # UDP without EDNS (RFC 1035 4.2.1)
_MAX_UDP = 65507  # of IPv4
_MAX_TCP = 65535
_MAX_PLAIN_ANSWERS = 8
_POINTER_END = 0x4000
_ECS = 8  # EDNS option: client subnet (RFC 7871)
_FAMILIES = {0: 0, 1: 32, 2: 128}  # of its addresses, with their bits; 0 wants no subnet to be told


_Answers = Sequence[tuple[Record, Sequence[Record]]]


class Query(Struct):
    """A parsed request. `error` is the rcode that it earns at once, 0 for a question to be answered.
    `size` is what the client announced by EDNS, None without EDNS."""

    id: int
    flags: int
    name: bytes = b""  # as asked, wire form; empty when there is no readable question
    type: int = 0
    klass: int = rr.IN
    size: int | None = None
    subnet: bytes = b""  # data of the client subnet option
    error: int = 0


def parse(data: bytes) -> Query | None:
    """Read a request; None when nothing should be answered: too short, or itself an answer."""
    if len(data) < 12:
        return None
    id, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & QR:
        return None
    query = Query(id, flags)
    if flags & _OPCODE:
        query.error = rr.NOTIMP
        return query
    # The sender of a plain query has one question, and little more than an OPT record or a signature.
    if questions != 1 or answers > 1 or authorities > 1 or additional > 2:
        query.error = rr.FORMERR
        return query
    end = _name_end(data, 12)
    if end is None or end + 4 > len(data):
        query.error = rr.FORMERR
        return query
    query.name = data[12:end]
    query.type, query.klass = _TWO.unpack_from(data, end)
    if not _read_edns(data, end + 4, answers + authorities + additional, query):
        query.error = rr.FORMERR
    elif not query.error:
        query.error = _unsupported(query)
    return query


def _unsupported(query: Query) -> int:
    if query.type in (rr.AXFR, rr.IXFR):
        return rr.NOTIMP
    if query.klass not in (rr.IN, rr.CLASS_ANY) or query.type == rr.OPT:
        return rr.REFUSED if query.type != rr.OPT else rr.FORMERR
    return 0


def _name_end(data: bytes, at: int) -> int | None:
    """The position behind an uncompressed name, None if it is broken. (The first name of a message
    has nothing to point to.)"""
    start = at
    while at < len(data):
        length = data[at]
        if length == 0:
            return at + 1 if at + 1 - start <= 255 else None
        if length > 63:
            return None
        at += 1 + length
    return None


def _skip_name(data: bytes, at: int) -> int | None:
    """The position behind a name that may end in a pointer (which is not followed)."""
    while at < len(data):
        length = data[at]
        if length == 0:
            return at + 1
        if length >= 0xC0:
            return at + 2
        if length > 63:
            return None
        at += 1 + length
    return None


def _read_edns(data: bytes, at: int, records: int, query: Query) -> bool:
    """Walk over the records behind the question and take in the OPT record; False if they are broken."""
    for _ in range(records):
        start = at
        behind = _skip_name(data, at)
        if behind is None or behind + 10 > len(data):
            return False
        type, klass, ttl, length = _FIXED.unpack_from(data, behind)
        at = behind + 10 + length
        if at > len(data):
            return False
        if type == rr.OPT:
            if query.size is not None or data[start] != 0:  # one, at the root (RFC 6891 6.1.1)
                return False
            query.size = klass
            if (ttl >> 16) & 0xFF:
                query.error = rr.BADVERS
            query.subnet = _option(data[behind + 10 : at], _ECS)
            if query.subnet and not _is_subnet(query.subnet):
                return False
    return True


def _is_subnet(data: bytes) -> bool:
    """Whether a client subnet option says what it may (RFC 7871 7.2.1: FORMERR if not)."""
    if len(data) < 4:
        return False
    bits = _FAMILIES.get(int.from_bytes(data[:2], "big"))
    return bits is not None and data[2] <= bits and data[3] <= bits


def _option(options: bytes, wanted: int) -> bytes:
    at = 0
    while at + 4 <= len(options):
        code, length = _TWO.unpack_from(options, at)
        if code == wanted:
            return options[at + 4 : at + 4 + length]
        at += 4 + length
    return b""


def subnet(query: Query) -> str:
    """The address of the client subnet option (RFC 7871), "" without one."""
    data = query.subnet
    size = _FAMILIES[int.from_bytes(data[:2], "big")] // 8 if data else 0
    return str(ip_address(data[4 : 4 + size].ljust(size, b"\0"))) if size else ""


def question_of(data: bytes) -> tuple[bytes, int, int] | None:
    """Name (as written), type and class of the single question of any message, None if there is none."""
    if len(data) < 12 or data[4:6] != b"\0\1":
        return None
    end = _name_end(data, 12)
    if end is None or end + 4 > len(data):
        return None
    return (data[12:end], *_TWO.unpack_from(data, end))


def pack(query: Query, reply: Reply, entries: Sequence[Entry], settings: DnsSettings, udp: bool) -> bytes:
    """The message that answers `query` with `entries` (those of `reply`, in the order to be shown), cut
    to what the transport and the settings allow."""
    shown = entries[: reply.limit] if reply.limit else entries
    answers: _Answers = [
        (record, entry.additional if at == 0 else ())
        for entry in shown
        for at, record in enumerate(entry.records)
    ]
    most, size = _limits(query, reply, settings, udp)
    kept = answers[: min(most, size // 12)]  # no record is shorter than 12 bytes
    cut = len(kept) < len(answers)
    if cut:
        kept = _without_metadata(kept)
    message = _build(query, reply, kept, reply.additional, settings, cut)
    if len(message) > size:
        message = _cut(query, reply, _without_metadata(kept), settings, size, cut)
    return message


def _without_metadata(answers: _Answers) -> _Answers:
    """Metadata is shown only where there is room for all answers."""
    return [
        (record, [beside for beside in about if beside.type != rr.TXT] if about else about)
        for record, about in answers
    ]


def udp_size(query: Query) -> int:
    """Bytes that the client takes in one datagram."""
    return min(max(query.size or 0, PLAIN_SIZE), _MAX_UDP)


def _limits(query: Query, reply: Reply, settings: DnsSettings, udp: bool) -> tuple[int, int]:
    """How many answers and how many bytes there may be."""
    if not udp:
        return _MAX_TCP, _MAX_TCP
    size = udp_size(query)
    if size > PLAIN_SIZE or not reply.counted:
        return size, size
    return max(1, min(settings.udp_answer_limit, _MAX_PLAIN_ANSWERS)), size


def order(query: Query, reply: Reply, settings: DnsSettings, udp: bool, random: Random) -> list[Entry]:
    """The entries of a reply as they should be shown now, no more of them than could be of use."""
    if not reply.shuffle:
        return reply.entries
    most, size = _limits(query, reply, settings, udp)
    return random.sample(reply.entries, min(len(reply.entries), most + 1, size // 12 + 1))


def _cut(query: Query, reply: Reply, answers: _Answers, settings: DnsSettings, size: int, cut: bool) -> bytes:
    """As many answers as fit with what belongs to them; at least one, if need be without anything
    beside it; and if not even that fits, none and the flag that sends the client to TCP."""
    best = None
    low, high = 1, len(answers)
    while low <= high:
        middle = (low + high) // 2
        message = _build(
            query, reply, answers[:middle], reply.additional, settings, cut or middle < len(answers)
        )
        if len(message) <= size:
            best, low = message, middle + 1
        else:
            high = middle - 1
    if best is not None:
        return best
    only = answers[:1]
    beside = [*(only[0][1] if only else ()), *reply.additional]
    bare = [(only[0][0], ())] if only else []
    for count in range(len(beside), -1, -1):
        message = _build(query, reply, bare, beside[:count], settings, cut or len(answers) > 1)
        if len(message) <= size:
            return message
    empty = Reply(
        rcode=reply.rcode,
        authoritative=reply.authoritative,
        recursion=reply.recursion,
        personal=reply.personal,
    )
    message = _build(query, empty, [], [], settings, False)
    return truncated(message)


def truncated(message: bytes) -> bytes:
    """The message with the flag that sends the client to TCP."""
    return message[:2] + bytes((message[2] | TC >> 8,)) + message[3:]


def _build(
    query: Query,
    reply: Reply,
    answers: _Answers,
    additional: Sequence[Record],
    settings: DnsSettings,
    cut: bool,
) -> bytes:
    flags = QR | query.flags & (_OPCODE | RD | CD) | reply.rcode & 0xF
    if reply.authoritative:
        flags |= AA
    if reply.recursion:
        flags |= RA
    if cut and settings.enable_truncate:
        flags |= TC
    writer = _Writer(not settings.disable_compression)
    if query.name:
        writer.question(query, reply.keep_case)
    for record, _ in answers:
        writer.record(record)
    for record in reply.authority:
        writer.record(record)
    extra = _extra(answers, additional)
    for record in extra:
        writer.record(record)
    count = len(extra)
    if query.size is not None:
        writer.opt(query, reply)
        count += 1
    questions = 1 if query.name else 0
    header = _HEADER.pack(query.id, flags, questions, len(answers), len(reply.authority), count)
    writer.out[:12] = header
    return bytes(writer.out)


def _extra(answers: _Answers, additional: Sequence[Record]) -> Sequence[Record]:
    """The additional section, each record once."""
    if not additional and not any(about for _, about in answers):
        return ()
    records = dict.fromkeys(record for _, about in answers for record in about)
    records.update(dict.fromkeys(additional))
    return list(records)


class _Writer:
    """A message being written, with the names that can be pointed to."""

    def __init__(self, compress: bool) -> None:
        self.out = bytearray(12)
        self.offsets: dict[bytes, int] | None = {} if compress else None
        self.asked = self.owner = b""

    def name(self, name: bytes, point: bool = True) -> None:
        """Write a name. Not every name may be written as a pointer, but every one can be pointed to."""
        offsets, out = self.offsets, self.out
        if offsets is None:
            out += name
            return
        start = len(out)
        at = 0
        while name[at]:
            rest = name[at:]
            offset = offsets.get(rest)
            if offset is None:
                if start + at < _POINTER_END:
                    offsets[rest] = start + at
            elif point:
                out += name[:at] + (0xC000 | offset).to_bytes(2, "big")
                return
            at += 1 + name[at]
        out += name

    def question(self, query: Query, keep_case: bool) -> None:
        """The question as it was asked. Records at its name repeat its letter case, if `keep_case`."""
        self.name(query.name)
        self.out += _TWO.pack(query.type, query.klass)
        if keep_case:
            self.asked = query.name.lower()
            self.owner = query.name if self.offsets is None else b"\xc0\x0c"

    def record(self, record: Record) -> None:
        out = self.out
        if record.name == self.asked:
            out += self.owner
        else:
            self.name(record.name)
        if not record.names:
            out += _FIXED.pack(record.type, rr.IN, record.ttl, len(record.data))
            out += record.data
            return
        out += _FIXED.pack(record.type, rr.IN, record.ttl, 0)
        start = len(out)
        if record.type == rr.SRV:
            out += record.data
            self.name(record.names[0], point=False)
        else:
            for name in record.names:
                self.name(name)
            out += record.data
        out[start - 2 : start] = (len(out) - start).to_bytes(2, "big")

    def opt(self, query: Query, reply: Reply) -> None:
        """The client's size repeated, the upper bits of the rcode, and its subnet: for whom the answer
        holds, which is everybody (scope 0) unless it is personal."""
        options = b""
        subnet = query.subnet
        if subnet:
            scope = subnet[2:3] if reply.personal else b"\0"
            echo = subnet[:3] + scope + subnet[4:]
            options = _TWO.pack(_ECS, len(echo)) + echo
        upper = (reply.rcode >> 4) << 24
        self.out += b"\0" + _FIXED.pack(rr.OPT, query.size or 0, upper, len(options)) + options


def refusal(rcode: int, recursion: bool = False) -> Reply:
    """A reply without records and without authority: errors, and names that are not ours."""
    return Reply(rcode=rcode, authoritative=False, recursion=recursion)


def question(name: bytes, type: int, size: int) -> bytes:
    """A query of our own, with the id 0, that announces `size` by EDNS."""
    header = _HEADER.pack(0, RD, 1, 0, 0, 1)
    return header + name + _TWO.pack(type, rr.IN) + b"\0" + _FIXED.pack(rr.OPT, size, 0, 0)


def answers_to(query: bytes, data: bytes) -> bool:
    """Whether `data` is an answer to `query`: the same id and question, whatever the letter case."""
    if len(data) < 12 or data[:2] != query[:2] or not data[2] & QR >> 8:
        return False
    asked, told = question_of(query), question_of(data)
    return (
        asked is not None
        and told is not None
        and (asked[0].lower(), *asked[1:]) == (told[0].lower(), *told[1:])
    )


def answers_of(data: bytes) -> list[Record]:
    """The addresses and CNAMEs in the answer section of a message; what is broken ends the list."""
    end = _name_end(data, 12)
    found: list[Record] = []
    if end is None:
        return found
    at = end + 4
    for _ in range(int.from_bytes(data[6:8], "big")):
        name, at = _read_name(data, at)
        if name is None or at + 10 > len(data):
            break
        type, klass, ttl, length = _FIXED.unpack_from(data, at)
        at += 10
        if at + length > len(data):
            break
        if klass == rr.IN and (type, length) in ((rr.A, 4), (rr.AAAA, 16)):
            found.append(Record(name, type, ttl, data[at : at + length]))
        elif klass == rr.IN and type == rr.CNAME:
            target, _ = _read_name(data, at)
            if target is not None:
                found.append(Record(name, type, ttl, b"", (target,)))
        at += length
    return found


def _read_name(data: bytes, at: int) -> tuple[bytes | None, int]:
    """A name that may end in pointers, and the position behind it. Pointers must lead backwards."""
    out = bytearray()
    behind = 0
    lowest = at
    while at < len(data) and len(out) < 255:
        length = data[at]
        if length == 0:
            return bytes(out) + b"\0", behind or at + 1
        if length >= 0xC0:
            if at + 1 >= len(data):
                break
            behind = behind or at + 2
            at = (length & 0x3F) << 8 | data[at + 1]
            if at >= lowest:
                break
            lowest = at
            continue
        if length > 63 or at + 1 + length > len(data):
            break
        out += data[at : at + 1 + length]
        at += 1 + length
    return None, at
