"""Locks that end with their holder: flock(2) on files that stay."""

from __future__ import annotations

import fcntl
import os

from sublet.errors import StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class Lock:
    """A lock on the file *path*, made where missing. ``descriptor`` may be passed on: who holds a
    copy holds the lock.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.descriptor = os.open(
            path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )

    def take(self, *, shared: bool = False, wait: bool = True) -> bool:
        """Take the lock; without *wait* return False where another holds it."""
        how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(self.descriptor, how if wait else how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def take_or_refuse(self, what: str, hint: str, *, shared: bool = False) -> None:
        """Take the lock, or raise StateError saying that *what* is in use."""
        if not self.take(shared=shared, wait=False):
            raise StateError(f"{what} is in use", path=self.path, hint=hint)

    def close(self) -> None:
        """Let go of this copy of the lock."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()
