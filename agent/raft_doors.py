"""What the Raft service needs of others: a state machine, and a way to other servers."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from core.raft.messages import Request, Response

if TYPE_CHECKING:
    from agent.raft import RaftService


class StateMachine(Protocol):
    """The replicated state. core/store/fsm.py fulfils it."""

    def apply(self, index: int, data: bytes, extensions: bytes, term: int) -> object: ...

    def snapshot(self) -> Iterator[bytes]:
        """The state as it is now; the chunks may be taken later."""
        ...

    def load(self, data: bytes) -> Generator[None, None, Any]:
        """Build a state aside, in short steps. CtlError or ValueError if that is none."""
        ...

    def adopt(self, state: Any) -> Iterator[None]:
        """Replace the state by one that was loaded; what is given back takes the old one apart in steps."""
        ...


class Transport(Protocol):
    """How messages reach other servers. Answers come back through RaftService.deliver.
    agent/raft_transport.py fulfils it."""

    def attach(self, raft: RaftService) -> None:
        """Work for this service from now on."""
        ...

    def send(self, to: str, address: str, request: Request) -> None: ...

    def answer(self, request: Request, response: Response) -> None: ...

    def forget(self) -> None:
        """No request that is open now will be answered."""
        ...

    def close(self) -> None: ...
