"""Remembered DNS answers: packed bytes under the exact bytes of the question.

An answer holds until the state that it was made of changes (its watch fires) or the configuration does
(`clear`); one that carries a SOA also ends with the second that its serial names. An answer in random
order keeps several orders, and new ones are made all the time (`Answer.fresh`), as often as that takes
no more than a twentieth of the time: a lone client sees a new order each time, a crowd shares some."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from core.store.watch import Watch

_ORDERS = 16
_CAPACITY = 2048  # of each generation


class Answer:
    """Messages without their first two bytes, the id. `make` packs another order, None if there is one."""

    __slots__ = ("make", "messages", "watch")

    def __init__(self, message: bytes, watch: Watch, make: Callable[[], bytes] | None) -> None:
        self.messages = [message]
        self.watch = watch
        self.make = make

    def fresh(self, random: Random) -> bytes:
        """A new order, kept in the place of an older one."""
        assert self.make is not None
        message = self.make()
        if len(self.messages) < _ORDERS:
            self.messages.append(message)
        else:
            self.messages[random.randrange(_ORDERS)] = message
        return message


class Memory:
    """At most two generations of answers: what was not asked for while the young one filled up is
    forgotten with the old one, at a cost per answer that does not depend on how many there are."""

    def __init__(self) -> None:
        self.young: dict[bytes, Answer] = {}  # for the hot path to look into
        self._old: dict[bytes, Answer] = {}
        self._dated: dict[bytes, Answer] = {}
        self._second = 0

    def find(self, question: bytes, second: int) -> Answer | None:
        """The answer if it holds; `second` is the Unix time."""
        answer = self.young.get(question)
        if answer is not None and answer.watch.fired:
            del self.young[question]
            answer = None
        if answer is None:
            answer = self._old.pop(question, None)
            if answer is not None and not answer.watch.fired:
                self.put(question, answer)
                return answer
            if second == self._second:
                answer = self._dated.get(question)
        return None if answer is None or answer.watch.fired else answer

    def put(self, question: bytes, answer: Answer) -> None:
        """Keep an answer until its watch fires."""
        if len(self.young) >= _CAPACITY:
            _close(self._old)
            self._old, self.young = self.young, {}
        _replace(self.young, question, answer)

    def put_dated(self, question: bytes, answer: Answer, second: int) -> None:
        """Keep an answer until its watch fires, but not beyond `second`."""
        if second != self._second or len(self._dated) >= _CAPACITY:
            _close(self._dated)
            self._dated = {}
            self._second = second
        _replace(self._dated, question, answer)

    def clear(self) -> None:
        """Forget all."""
        for answers in (self.young, self._old, self._dated):
            _close(answers)
        self.young, self._old, self._dated = {}, {}, {}


def _replace(answers: dict[bytes, Answer], question: bytes, answer: Answer) -> None:
    before = answers.get(question)
    if before is not None:
        before.watch.close()
    answers[question] = answer


def _close(answers: dict[bytes, Answer]) -> None:
    for answer in answers.values():
        answer.watch.close()
