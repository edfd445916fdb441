"""The launcher's end of the channel: receive and send messages, keep to the dialogue.

The legal order is one table, of spec/wire.toml, on both sides (docs/protocol.md). Whatever the peer
does, this end answers with a message or a typed error, and no descriptor that came along is lost.
"""

from __future__ import annotations

import array
import os
import select
import socket
import time

from sublet.errors import ExecutorDiedError, PlanError, ProtocolError
from sublet.plan.message import SIZE, Message, next_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sublet.plan.message import Kind, State

DESCRIPTORS: dict[str, int] = {"started": 1}
"""How many descriptors come with a message; none with the others."""

ROOM = 8
"""Descriptors that are received at most; what is beyond is closed by the kernel."""


class Channel:
    """A dialogue in progress.

    ``state``: as in docs/protocol.md. ``phase``: the last one that the executor named.
    """

    def __init__(self, peer: socket.socket, *, sync_start: bool = False) -> None:
        self.socket = peer
        self.sync_start = sync_start
        self.state: State = "starting"
        self.phase = "start"

    def receive(
        self, deadline: float | None = None, pidfd: int | None = None
    ) -> tuple[Message, tuple[int, ...]]:
        """Wait for the next message; return it with its descriptors, the caller's to close.

        *deadline*: by time.monotonic(), in seconds; None: however long it takes. *pidfd*: of the
        executor, whose end then counts as the channel's, also where a grandchild keeps that open.
        TimeoutError at the deadline; ExecutorDiedError at the end; ProtocolError for what may not
        be said.
        """
        self._wait(deadline, pidfd)
        try:
            buffer, ancillary, flags, _ = self.socket.recvmsg(
                SIZE + 1, socket.CMSG_SPACE(ROOM * 4), socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT
            )
        except ConnectionResetError:  # it went away with something of ours unread
            raise self.died() from None
        descriptors = _descriptors(ancillary)
        try:
            message = self._check(buffer, flags, descriptors)
        except BaseException:
            for fd in descriptors:
                os.close(fd)
            raise
        return message, descriptors

    def send(self, kind: Kind) -> None:
        """Say *kind*. ProtocolError where it is not its turn; ExecutorDiedError without a peer."""
        try:
            state = next_state(self.state, "launcher", kind, sync_start=self.sync_start)
        except PlanError as error:
            raise ProtocolError(error.what) from None
        try:
            self.socket.send(Message(kind).encode(), socket.MSG_NOSIGNAL)
        except OSError as error:
            died = self.died()
            self.state = state  # its last word, where it had one, is still to be read
            raise died from error
        self.state = state

    def died(self) -> ExecutorDiedError:
        """Return the error for a peer that is gone, by what it had got to."""
        before = {
            "starting": "before it had started the sandbox's first process",
            "preparing": f"while it set the sandbox up (last phase named: {self.phase})",
            "ready": "after set-up, before the command was executed",
            "released": "when the command was about to be executed",
            "running": "while the command ran",
            "ended": "after everything had ended",
        }[self.state]
        return ExecutorDiedError(
            f"the executor ended without a word {before}",
            phase=self.phase,
            hint="Was it killed, by hand or for lack of memory? The kernel's log may know: dmesg.",
        )

    def close(self) -> None:
        """Close this end."""
        self.socket.close()

    def _wait(self, deadline: float | None, pidfd: int | None) -> None:
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        if pidfd is not None:
            poll.register(pidfd, select.POLLIN)
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        ready = dict(poll.poll(left))
        if not ready:
            raise TimeoutError("the executor said nothing in the time given")
        # The last words of an executor that is gone are still to be read.
        if self.socket.fileno() not in ready and not select.select([self.socket], [], [], 0)[0]:
            raise self.died()

    def _check(self, buffer: bytes, flags: int, descriptors: tuple[int, ...]) -> Message:
        if not buffer:
            raise self.died()
        try:
            message = Message.decode(buffer)
            state = next_state(self.state, "executor", message.kind, sync_start=self.sync_start)
        except PlanError as error:
            raise ProtocolError(
                f"the executor broke the protocol in state {self.state!r}: {error.what}",
                phase=self.phase,
                hint="Does the executor belong to this Sublet? Compare sublet-exec --version.",
            ) from None
        expected = DESCRIPTORS.get(message.kind, 0)
        count = len(descriptors)
        if flags & socket.MSG_CTRUNC or not count == expected == message.descriptors:
            raise ProtocolError(
                f"{count} descriptors came with {message.kind!r}, which announced"
                f" {message.descriptors}, and {expected} belong to it",
                phase=self.phase,
            )
        self.state = state
        self.phase = message.phase
        return message


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, ...]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return tuple(found)
