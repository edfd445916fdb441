"""The executor is started beside this process, and talked to: the library's way."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import socket
import threading
import time

from sublet.errors import ExecutorDiedError, HostError, ProtocolError, SubletError
from sublet.launch.channel import Channel
from sublet.launch.executor import command, find_executor, in_memory
from sublet.launch.report import Report, report_of
from sublet.plan.codec import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

    from sublet.plan.message import Message, State
    from sublet.plan.model import Plan

PATIENCE_SECONDS = 2.0
"""How long an executor that has said its last word, or was killed, may take to end."""


class Launched:
    """A launch in progress.

    ``pid``, ``pidfd``: of the executor, which stays until the end as the supervisor.
    ``first_pid``, ``first_pidfd``: of the sandbox's first process, once :meth:`wait_ready` has
    returned. ``report``: how it ended, once it has.

    One thread at a time may wait; :meth:`kill` is for any thread. As a context manager, it kills
    what still runs at the end of the block, and closes its descriptors.
    """

    def __init__(self, plan: Plan, process: subprocess.Popen[bytes], channel: Channel) -> None:
        self.plan = plan
        self.pid = process.pid
        self.pidfd = os.pidfd_open(process.pid)
        self.first_pid: int | None = None
        self.first_pidfd: int | None = None
        self.report: Report | None = None
        self._process = process
        self._channel = channel
        self._error: SubletError | None = None
        self._waiting = threading.Lock()

    @property
    def state(self) -> State:
        """Where the dialogue stands: docs/protocol.md, Messages."""
        return self._channel.state

    def wait_ready(self, timeout: float | None = None) -> None:
        """Return when set-up is complete.

        With the plan's ``sync_start`` the executor then waits for :meth:`go`; without, it executes
        the command at once. *timeout* in seconds, TimeoutError after it, and it may be called
        again. SetupError (or a more fitting one of its kind) where set-up failed.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.state in {"starting", "preparing"}:
            self._advance(deadline)
        if self._error is not None:
            raise self._error

    def go(self) -> None:
        """Have the command executed (only with ``sync_start``, once, when ready).

        ProtocolError where it is not its turn; ExecutorDiedError where nobody is left.
        """
        self._channel.send("go")

    def wait(self, timeout: float | None = None) -> Report:
        """Return how it ended, when it has; TimeoutError after *timeout* seconds.

        An error of :mod:`sublet.errors` where the command was never executed. In a plan with
        ``sync_start``, :meth:`go` comes first: ProtocolError.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.state != "ended":
            if self.state == "ready" and self._channel.sync_start:
                raise ProtocolError("the executor waits for go()", phase="exec")
            self._advance(deadline)
        if self._error is not None:
            raise self._error
        if self.report is None:
            raise ProtocolError("the launch ended without a report")
        return self.report

    def kill(self) -> None:
        """Kill the whole tree; nothing happens where it has ended, or where it was closed.

        Processes of a plan without a pid namespace that have left the command are not known here,
        and stay.
        """
        if self._waiting.acquire(blocking=False):
            try:
                # Nobody else listens: the first process may be announced and not yet known.
                while self.pidfd >= 0 and self.state == "starting":
                    try:
                        self._advance(time.monotonic(), locked=True)
                    except (TimeoutError, SubletError):
                        break
            finally:
                self._waiting.release()
        # The kernel kills all of the pid namespace with its first process, and the supervisor, who
        # sees it, ends by itself with a last word. Before there is a first process, what the
        # supervisor may have begun ends with it.
        if self.pidfd >= 0 and self._process.returncode is None:
            _kill(self.pidfd if self.first_pidfd is None else self.first_pidfd)

    def close(self) -> None:
        """Kill what still runs, wait for the executor's end, and close all descriptors."""
        if self.pidfd < 0:
            return
        if self._process.returncode is None:
            if self.state != "ended":
                self.kill()
            self._reap()
        self._channel.close()
        for pidfd in (self.pidfd, self.first_pidfd):
            if pidfd is not None:
                os.close(pidfd)
        self.pidfd = -1
        self.first_pidfd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _advance(self, deadline: float | None, *, locked: bool = False) -> None:
        """Take the next message in."""
        if not locked and not self._waiting.acquire(blocking=False):
            raise RuntimeError("another thread waits for this launch")
        try:
            message, descriptors = self._channel.receive(deadline, self.pidfd)
        except (ExecutorDiedError, ProtocolError) as error:
            self._broken(error)
            raise
        finally:
            if not locked:
                self._waiting.release()
        if message.kind == "started":
            self.first_pid = message.value
            (self.first_pidfd,) = descriptors
        elif message.kind in {"failed", "exited"}:
            self._ended(message)

    def _ended(self, message: Message) -> None:
        self._reap()
        self.report = report_of(message, self.plan)
        if message.kind == "failed":
            from sublet.launch.failure import explain

            self._error = explain(self.report)

    def _broken(self, error: SubletError) -> None:
        """Leave nothing behind an executor that died or talks nonsense."""
        if self.state == "running" and isinstance(error, ExecutorDiedError):
            self.report = Report("lost", self.plan, signal=int(signal.SIGKILL))
        if isinstance(error, ProtocolError):
            _kill(self.pidfd)
        status = self._reap()
        if self.first_pidfd is not None:
            _kill(self.first_pidfd)
        if status < 0 and isinstance(error, ExecutorDiedError):
            error.what += f" (signal {-status})"
        self._channel.state = "ended"
        self._error = error

    def _reap(self) -> int:
        """Wait for the executor's end, which is near; return its status as subprocess has it."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        if not poll.poll(PATIENCE_SECONDS * 1000):
            _kill(self.pidfd)
        return self._process.wait()


def _kill(pidfd: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return


def spawn(
    plan: Plan,
    slots: Mapping[str, int] | None = None,
    *,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    env: Mapping[str, str] | None = None,
) -> Launched:
    """Start the executor of *plan* beside this process, and return at once.

    *slots*: the descriptor for each slot that the plan names; they stay the caller's. *stdin*,
    *stdout*, *stderr*: descriptors for the payload; None: the caller's own. *env*: the executor's
    environment (the payload's is in the plan). PlanError for a plan that is not valid; HostError
    where the executor cannot be executed.

    Safe in a threaded program: subprocess.Popen without preexec_fn starts the child by vfork, whose
    cost does not grow with this process, and makes the descriptors inheritable in the child alone,
    so that no other child that another thread starts at the moment can get them. os.posix_spawn
    would need them inheritable here, for all to see.
    """
    import subprocess

    path = find_executor()
    wire = encode(plan)
    opened: list[int] = []
    process = ours = None
    try:
        ours, theirs = _pair(opened)
        opened.append(plan_fd := in_memory(wire))
        given = {}
        for name, fd in (slots or {}).items():
            # 0, 1 and 2 are about to become the payload's.
            given[name] = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
            opened.append(given[name])
        process = subprocess.Popen(
            command(path, plan_fd, given, theirs),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=env,
            close_fds=True,
            pass_fds=(plan_fd, *given.values(), theirs),
        )
        launched = Launched(plan, process, Channel(ours, sync_start=plan.supervision.sync_start))
    except BaseException as error:
        if process is not None:
            process.kill()
            process.wait()
        if ours is not None:
            ours.close()
        if not isinstance(error, OSError):
            raise
        raise HostError(
            f"the executor {path} cannot be started: {error.strerror}",
            path=path,
            errno=error.errno,
            hint="Too many descriptors or processes? See ulimit -n and ulimit -u."
            if error.errno in {errno.EMFILE, errno.ENFILE, errno.EAGAIN}
            else None,
        ) from error
    finally:
        for fd in opened:
            os.close(fd)
    return launched


def _pair(opened: list[int]) -> tuple[socket.socket, int]:
    """Return both ends of a channel; the executor's, a bare descriptor, is added to *opened*."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    opened.append(theirs.detach())
    return ours, opened[-1]
