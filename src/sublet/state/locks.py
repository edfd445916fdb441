"""Locks that end with their holder: flock(2) on files of their own."""

from __future__ import annotations

import fcntl
import os

from sublet.errors import StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class Lock:
    """A lock on the file *path*, made where missing.

    ``descriptor`` may be handed on to another process: who has a copy holds the lock. The file may
    be removed by whoever holds the lock alone; those who waited for it then wait for the new one.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.descriptor = os.open(path, FLAGS, 0o600)

    def take(self, *, shared: bool = False, wait: bool = True) -> bool:
        """Take the lock; without *wait* return False where another holds it.

        Changing between shared and alone is possible and never a deadlock, but it lets go in
        between (flock(2)): what was found under the one has to be looked at again under the other.
        """
        how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        while True:
            try:
                fcntl.flock(self.descriptor, how if wait else how | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            if self._is_current():
                return True
            os.close(self.descriptor)
            self.descriptor = os.open(self.path, FLAGS, 0o600)

    def take_or_refuse(self, what: str, hint: str, *, shared: bool = False) -> None:
        """Take the lock, or raise StateError saying that *what* is in use."""
        if not self.take(shared=shared, wait=False):
            raise StateError(f"{what} is in use", path=self.path, hint=hint)

    def close(self) -> None:
        """Let go of this copy of the lock."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _is_current(self) -> bool:
        """Tell whether the file of that path is still the one that is locked."""
        try:
            return os.path.samestat(
                os.fstat(self.descriptor), os.stat(self.path, follow_symlinks=False)
            )
        except FileNotFoundError:
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()
