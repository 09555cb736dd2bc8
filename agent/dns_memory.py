"""What the DNS server remembers, in two layers.

`Packets`: packed answers under the exact bytes of the question. The hot path looks only here.
`Replies`: what core/dns answered to a name and type, shared by all ways to ask for it: UDP and TCP, with
and without EDNS, any letter case (resolvers vary it to be harder to fool).

A reply holds until the state that it was made of changes (its watch fires) or the configuration does
(`clear`); one that carries a SOA also ends with the second that its serial names. Forgetting a reply
fires its watch, so that its packets go with it.

Both layers keep two generations: what was not asked for while the young one filled up is forgotten
with the old one."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from core.dns.answer import Reply
from core.store.watch import Watch

_ORDERS = 16
_CAPACITY = 2048  # of each generation


class Answer:
    """Messages without their first two bytes, the id. An answer in random order keeps several orders;
    `make` packs another one, None if there is only one."""

    __slots__ = ("make", "messages", "watch")

    def __init__(self, message: bytes, watch: Watch, make: Callable[[], bytes] | None) -> None:
        self.messages = [message]
        self.watch = watch
        self.make = make

    def fresh(self, random: Random) -> bytes:
        """A new order, kept in the place of an older one."""
        if self.make is None:
            return self.messages[0]
        message = self.make()
        if len(self.messages) < _ORDERS:
            self.messages.append(message)
        else:
            self.messages[random.randrange(_ORDERS)] = message
        return message


class Packets:
    """Packed answers by question."""

    def __init__(self) -> None:
        self.young: dict[bytes, Answer] = {}  # for the hot path to look into; holds nothing dated
        self._old: dict[bytes, Answer] = {}
        self._dated: dict[bytes, Answer] = {}
        self._second = 0

    def find(self, question: bytes, second: int) -> Answer | None:
        """The answer if it holds; `second` is the Unix time."""
        answer = self.young.get(question)
        if answer is None:
            answer = self._old.pop(question, None)
            if answer is not None:
                self.put(question, answer)
        if (answer is None or answer.watch.fired) and second == self._second:
            answer = self._dated.get(question)
        return None if answer is None or answer.watch.fired else answer

    def put(self, question: bytes, answer: Answer) -> None:
        """Keep an answer until its watch fires."""
        if len(self.young) >= _CAPACITY:
            self._old, self.young = self.young, {}
        self.young[question] = answer

    def put_dated(self, question: bytes, answer: Answer, second: int) -> None:
        """Keep an answer until its watch fires, but not beyond `second`."""
        if second != self._second or len(self._dated) >= _CAPACITY:
            self._dated = {}
            self._second = second
        self._dated[question] = answer

    def clear(self) -> None:
        """Forget all."""
        self.young, self._old, self._dated = {}, {}, {}


class Known:
    """A reply, and the watch that tells when it no longer holds; `second` is that of its serial."""

    __slots__ = ("reply", "second", "watch")

    def __init__(self, reply: Reply, watch: Watch, second: int) -> None:
        self.reply = reply
        self.watch = watch
        self.second = second


class Replies:
    """Replies by name in lower case and type."""

    def __init__(self) -> None:
        self._young: dict[tuple[bytes, int], Known] = {}
        self._old: dict[tuple[bytes, int], Known] = {}

    def find(self, name: bytes, type: int, second: int) -> Known | None:
        """What is known if it holds; `second` is the Unix time."""
        key = (name, type)
        known = self._young.get(key)
        if known is None:
            known = self._old.pop(key, None)
            if known is not None:
                self.put(name, type, known)
        if known is None or known.watch.fired or (known.reply.dated and known.second != second):
            return None
        return known

    def put(self, name: bytes, type: int, known: Known) -> None:
        """Keep a reply in the place of an older one."""
        if len(self._young) >= _CAPACITY:
            _forget(self._old)
            self._old, self._young = self._young, {}
        before = self._young.get((name, type))
        if before is not None:
            before.watch.fire()
        self._young[name, type] = known

    def clear(self) -> None:
        """Forget all."""
        _forget(self._young)
        _forget(self._old)
        self._young, self._old = {}, {}


def _forget(replies: dict[tuple[bytes, int], Known]) -> None:
    for known in replies.values():
        known.watch.fire()
