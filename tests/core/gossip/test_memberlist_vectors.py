"""Memberlist's bytes against those of real agents: read to what the vector says, written again the same."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from core.codec import lzw, msgpack
from core.codec.msgpack import DecodeError
from core.gossip import messages as m
from core.gossip.keyring import Keyring
from core.gossip.packet import (
    Envelope,
    compounds,
    compress,
    decompress,
    open_message,
    split_compound,
    split_label,
)
from core.gossip.settings import LAN
from core.gossip.streams import Inbound, PushPull, RemoteError, StreamError, StreamMessage, UserMessage
from core.gossip.suspicion import Suspicion, push_pull_interval, retransmit_limit, suspicion_timeout

FOLDER = Path(__file__).parents[2] / "vectors" / "gossip"
PACKETS = [
    *("consul_udp_alive_client_lan", "consul_udp_alive_server_lan", "consul_udp_alive_server_wan"),
    *("consul_udp_alive_server_wan_dc2", "consul_udp_new_leader", "consul_udp_user_event"),
    *("enc_udp_ack", "enc_udp_crc_compound_alive", "enc_udp_crc_user_event"),
    *("enc_udp_key_response_error", "enc_udp_key_response_list", "enc_udp_key_response_ok"),
    *("enc_udp_ping", "enc_udp_ping_rotated", "enc_udp_query_install_key", "enc_udp_query_list_keys"),
    *("enc_udp_query_remove_key", "enc_udp_query_use_key", "enc_v0_udp_ping"),
    *("enc_v0_udp_ping_fixed_nonce", "enc_v1_udp_ping_fixed_nonce", "label_enc_udp_ping"),
    *("label_udp_ping_plain", "udp_ack_coordinate", "udp_compound_ack_piggyback"),
    *("udp_compound_ping_suspect", "udp_crc_alive", "udp_crc_alive_refute"),
    *("udp_crc_alive_tags_update", "udp_crc_compound_user_event", "udp_crc_compress_compound"),
    *("udp_crc_dead_failed", "udp_crc_dead_left", "udp_crc_join_intent", "udp_crc_leave_intent"),
    *("udp_crc_leave_intent_force", "udp_crc_leave_intent_prune", "udp_crc_query_filters"),
    *("udp_crc_query_noack", "udp_crc_query_relay", "udp_crc_suspect", "udp_crc_user_besteffort"),
    *("udp_indirect_ping", "udp_nack", "udp_ping", "udp_query_ack", "udp_query_conflict"),
    *("udp_query_conflict_response", "udp_query_response", "udp_relay_query_response"),
]
STREAMS = [
    *("consul_tcp_pushpull_reply", "consul_tcp_pushpull_reply_wan"),
    *("consul_tcp_pushpull_request_foreign_client", "enc_tcp_err_plaintext_refused"),
    *("enc_tcp_pushpull_join", "enc_v0_tcp_pushpull", "label_enc_tcp_pushpull", "tcp_ack"),
    *("tcp_err_encrypted_refused", "tcp_ping", "tcp_pushpull_join_reply", "tcp_pushpull_join_request"),
    *("tcp_pushpull_left_member", "tcp_pushpull_sync_with_event", "tcp_pushpull_uncompressed"),
    *("tcp_user_compressed_encrypted_v0", "tcp_user_uncompressed"),
]
# Programs without a delegate send nil as their node's meta; ours is then the empty string, as Serf's is.
NIL_META = {"tcp_pushpull_uncompressed", "enc_v0_tcp_pushpull"}


@cache
def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / name).read_text())
    return found


def raw(value: Any) -> Any:
    return bytes.fromhex(value["$hex"]) if isinstance(value, dict) else value


def text_address(value: Any) -> str:
    return ".".join(str(byte) for byte in raw(value)) if value is not None else ""


def expected(kind: int, body: dict[str, Any]) -> tuple[Any, bytes]:
    """The message that a vector describes, and how we write it."""
    get = body.get
    source = (text_address(get("SourceAddr")), get("SourcePort", 0), get("SourceNode", ""))
    if kind == m.PING:
        ping = m.Ping(body["SeqNo"], get("Node", ""), *source)
        return ping, m.encode_ping(ping)
    if kind == m.INDIRECT_PING:
        target = text_address(body["Target"])
        request = m.IndirectPing(body["SeqNo"], target, body["Port"], body["Node"], body["Nack"], *source)
        return request, m.encode_indirect_ping(request)
    if kind == m.ACK:
        ack = m.Ack(body["SeqNo"], raw(body["Payload"]))
        return ack, m.encode_ack(ack)
    if kind == m.NACK:
        return m.Nack(body["SeqNo"]), m.encode_nack(m.Nack(body["SeqNo"]))
    if kind == m.SUSPECT:
        suspect = m.Suspect(body["Incarnation"], body["Node"], body["From"])
        return suspect, m.encode_suspect(suspect)
    if kind == m.DEAD:
        dead = m.Dead(body["Incarnation"], body["Node"], body["From"])
        return dead, m.encode_dead(dead)
    assert kind == m.ALIVE
    alive = facts(body, "Node")
    return alive, m.encode_alive(alive)


def facts(body: dict[str, Any], name: str) -> m.Alive:
    meta = raw(body["Meta"]) or b""
    address = text_address(body["Addr"])
    return m.Alive(body["Incarnation"], body[name], address, body["Port"], meta, raw(body["Vsn"]))


def read(message: bytes) -> Any:
    kind = message[0]
    if m.SUSPECT <= kind <= m.DEAD:
        return m.decode_gossip(message)
    readers = {m.PING: m.ping_of, m.INDIRECT_PING: m.indirect_ping_of, m.ACK: m.ack_of, m.NACK: m.nack_of}
    return readers[kind](m.fields_of(message))  # type: ignore[operator]


def envelope(vector: dict[str, Any], **changes: Any) -> Envelope:
    key = vector.get("key")
    keyring = Keyring([bytes(16), bytes.fromhex(key["hex"])]) if key else None
    label = vector["decoded"].get("label", "").encode()
    return Envelope(replace(LAN, label=label, **changes), keyring, random.Random(1))


def rebuilt(node: dict[str, Any], leaves: Iterator[bytes]) -> bytes:
    """The bytes of a described message; each simple one was read to what the vector says, too."""
    kind = node["type"]
    if kind == m.CRC:
        inner = rebuilt(node["inner"], leaves)
        return bytes((m.CRC,)) + node["crc32"].to_bytes(4, "big") + inner
    if kind == m.COMPRESS:
        inner = rebuilt(node["inner"], leaves)
        assert inner.hex() == node["uncompressed_hex"]
        packed = compress(inner)
        assert decompress(packed, 1 << 16) == inner
        return packed
    if kind == m.COMPOUND:
        parts = [rebuilt(part, leaves) for part in node["parts"]]
        (whole,) = compounds(parts)
        assert split_compound(whole) == (parts, 0)
        return whole
    leaf = next(leaves)
    assert leaf[0] == kind
    if kind != m.USER:
        message, written = expected(kind, node["body"])
        assert read(leaf) == message
        assert leaf == written
    elif "user_payload" in node:
        assert leaf[1:] == raw(node["user_payload"])
    return leaf


def test_no_vector_is_left_out() -> None:
    for path in FOLDER.glob("*.json"):
        transport = load(path.name).get("transport")
        assert transport is None or path.stem in {"udp": PACKETS, "tcp": STREAMS}[transport]


@pytest.mark.parametrize("name", PACKETS)
def test_packets(name: str) -> None:
    vector = load(f"{name}.json")
    packet, decoded = bytes.fromhex(vector["hex"]), vector["decoded"]
    sealed = envelope(vector)
    leaves, problems = open_message(sealed.open_packet(packet))
    assert not problems
    again = iter(leaves)
    plain = rebuilt(decoded["message"], again)
    assert next(again, None) is None
    if "encryption" in decoded:
        assert plain.hex() == decoded["plain_hex"]
        how = decoded["encryption"]
        assert how["aad_hex"] == sealed.label.hex()
        keyring = Keyring([bytes.fromhex(vector["key"]["hex"])])
        plain = keyring.encrypt(plain, bytes.fromhex(how["nonce"]), sealed.label, how["version"])
    prefix = b"\xf4" + bytes((len(sealed.label),)) + sealed.label if sealed.label else b""
    assert prefix + plain == packet


@pytest.mark.parametrize("name", PACKETS)
def test_packets_are_sealed_as_they_were_read(name: str) -> None:
    """What we seal ourselves opens again, checksum and compression included."""
    vector = load(f"{name}.json")
    sealed = envelope(vector)
    for message in open_message(sealed.open_packet(bytes.fromhex(vector["hex"])))[0]:
        for big in (message, bytes((m.USER,)) + message * 30):
            for checksum in (False, True):
                packet = sealed.seal_packet(big, checksum)
                assert open_message(sealed.open_packet(packet)) == ([big], [])


def stream_message(decoded: dict[str, Any], message: StreamMessage) -> bytes:
    """Checks `message` against the vector; the bytes that we would write for it."""
    kind = decoded["type"]
    if kind == m.PUSH_PULL:
        header = decoded["header"]
        assert isinstance(message, PushPull)
        assert (message.join, len(message.nodes)) == (header["Join"], header["Nodes"])
        assert len(message.user_state) == header["UserStateLen"]
        assert message.nodes == [(facts(node, "Name"), node["State"]) for node in decoded["nodes"]]
        nodes = [(alive, alive.incarnation, state) for alive, state in message.nodes]
        return m.encode_push_pull(message.join, nodes, message.user_state)
    if kind == m.USER:
        assert message == UserMessage(raw(decoded["user_payload"]))
        return m.encode_user_stream(message.data)
    if kind == m.ERROR:
        assert message == RemoteError(decoded["body"]["Error"])
        return m.encode_error(message.text)
    wanted, written = expected(kind, decoded["body"])
    assert message == wanted
    return written


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
@pytest.mark.parametrize("name", STREAMS)
def test_streams(name: str, step: int) -> None:
    vector = load(f"{name}.json")
    data, decoded = bytes.fromhex(vector["hex"]), vector["decoded"]
    sealed = envelope(vector)
    parser = Inbound(sealed)
    for start in range(0, len(data), step):
        message = parser.feed(data[start : start + step])
        assert (message is None) == (start + step < len(data))
    assert message is not None
    plain = stream_message(decoded, message)
    if name in NIL_META:
        plain = plain.replace(b"\xa4Meta\xa0", b"\xa4Meta\xc0")
    if "compressed" in decoded:
        assert plain.hex() == decoded["uncompressed_hex"]
        plain = compress(plain)
    if "encryption" in decoded:
        assert plain.hex() == decoded["plain_hex"]
        how = decoded["encryption"]
        header = bytes((m.ENCRYPT,)) + how["length_field"].to_bytes(4, "big")
        assert how["aad_hex"] == (header + sealed.label).hex()
        keyring = Keyring([bytes.fromhex(vector["key"]["hex"])])
        nonce = bytes.fromhex(how["nonce"])
        plain = header + keyring.encrypt(plain, nonce, header + sealed.label, how["version"])
    found = split_label(data)
    assert found is not None
    assert data[: found[1]] + plain == data


@pytest.mark.parametrize("name", STREAMS)
def test_streams_are_sealed_as_they_are_read(name: str) -> None:
    vector = load(f"{name}.json")
    sealed = envelope(vector)
    message = Inbound(sealed).feed(bytes.fromhex(vector["hex"]))
    assert message is not None
    assert Inbound(sealed).feed(sealed.seal_stream(stream_message(vector["decoded"], message))) == message


@pytest.mark.parametrize("name", ["enc_udp_ping", "enc_v0_udp_ping", "label_enc_udp_ping"])
def test_packets_that_are_not_for_us(name: str) -> None:
    vector = load(f"{name}.json")
    packet = bytes.fromhex(vector["hex"])
    stranger = Envelope(replace(LAN, label=envelope(vector).label), Keyring([bytes(32)]), random.Random(1))
    for wrong in (packet, packet[:-1], packet[:20], packet[:-1] + b"x", b""):
        with pytest.raises(DecodeError):
            stranger.open_packet(wrong)
    labelled = Envelope(replace(LAN, label=b"other"), envelope(vector).keyring, random.Random(1))
    with pytest.raises(DecodeError, match=r"label|incomplete"):
        labelled.open_packet(packet)


def test_errors_that_peers_are_told() -> None:
    plain, secret = load("tcp_pushpull_uncompressed.json"), load("enc_tcp_pushpull_join.json")
    told = {
        "tcp_err_encrypted_refused.json": (plain, bytes.fromhex(secret["hex"])),
        "enc_tcp_err_plaintext_refused.json": (secret, bytes.fromhex(plain["hex"])),
    }
    for name, (who, data) in told.items():
        with pytest.raises(StreamError) as caught:
            Inbound(envelope(who)).feed(data)
        reply = Inbound(envelope(who)).feed(caught.value.reply)
        assert reply == RemoteError(load(name)["decoded"]["body"]["Error"])


def test_lzw() -> None:
    for case in load("lzw.json")["cases"]:
        plain, packed = bytes.fromhex(case["plain_hex"]), bytes.fromhex(case["lzw_hex"])
        assert lzw.encode(plain) == packed, case["name"]
        assert lzw.decode(packed, len(plain)) == plain, case["name"]
        if plain:
            with pytest.raises(DecodeError, match="more than"):
                lzw.decode(packed, len(plain) - 1)
        with pytest.raises(DecodeError):
            lzw.decode(packed[:-1], len(plain))


def test_old_msgpack() -> None:
    for case in load("msgpack_old_spec.json")["cases"]:
        value = case["value"]
        if isinstance(value, dict) and "repeat" in value:
            value = value["repeat"] * value["length"]
        packed = msgpack.encode(value).hex()
        if case["hex"].endswith("..."):
            packed = packed[: len(case["hex"]) - 3] + "..."
        assert packed == case["hex"], case["description"]


def test_formulas() -> None:
    table = load("formulas.json")
    for row in table["retransmit_limit"]:
        assert retransmit_limit(row["mult"], row["n"]) == row["limit"]
    for row in table["suspicion_min_ms"]:
        seconds = suspicion_timeout(row["mult"], row["n"], row["interval_ms"] / 1000)
        assert int(seconds * 1000 + 1e-6) == row["timeout_ms"], row  # the table has whole milliseconds
    for row in table["pushpull_scale_ms"]:
        assert push_pull_interval(row["base_ms"] / 1000, row["n"]) * 1000 == row["interval_ms"], row
    for row in table["suspicion_remaining_ms"]:
        suspicion = Suspicion("a", row["k"], row["min_ms"] / 1000, row["max_ms"] / 1000, 50.0)
        for accuser in range(row["confirmations"]):
            assert suspicion.confirm(str(accuser))
        left = suspicion.deadline - 50.0 - row["elapsed_ms"] / 1000
        assert left * 1000 == pytest.approx(row["remaining_ms"], abs=1e-6), row
