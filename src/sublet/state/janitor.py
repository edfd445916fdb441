"""Removes a half-made tree whose maker was killed: a process that waits for the maker's end.

SIGKILL gives the maker no chance to clear up, and the next run, which would, may never come. The
janitor holds one end of a pipe; when the other is closed without a word, the maker is dead.
"""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from types import TracebackType
    from typing import Self

DONE = b"."
PATIENCE_SECONDS = 60.0
BOOTSTRAP = (
    "import sys; sys.path.append(sys.argv[1]);"
    " from sublet.state.janitor import main; sys.exit(main(sys.argv[2], sys.argv[3]))"
)


class Janitor:
    """While the block runs, the tree *partial* in *cache* is removed should this process die."""

    def __init__(self, cache: str, partial: str) -> None:
        self._words = (cache, partial)
        self._alive = -1
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        import subprocess

        place = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        waiting, self._alive = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", "-c", BOOTSTRAP, place, *self._words],
                stdin=waiting,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,  # the terminal's signals are for the maker
            )
        finally:
            os.close(waiting)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            os.write(self._alive, DONE)
        except BrokenPipeError:
            pass  # somebody killed it; there is nothing left for it to do
        finally:
            os.close(self._alive)
        if self._process is not None:
            self._process.wait()


def main(cache: str, partial: str) -> int:
    """Wait for the maker's end, and sweep the cache until *partial* is gone; 1 if it would not."""
    if os.read(0, 1) == DONE:
        return 0
    from sublet.host import read_facts
    from sublet.state.inside import Inside
    from sublet.state.trees import sweep

    inside = Inside(read_facts(need=("subids", "helpers", "sysctls", "root")), None)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while os.path.isdir(partial) and time.monotonic() < deadline:
        # what the maker had started holds the lock until it has died as well
        sweep(cache, inside)
        time.sleep(0.02)
    return int(os.path.isdir(partial))
