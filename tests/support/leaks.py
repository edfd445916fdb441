"""What a test left behind: processes, mounts, files.

Processes are known by a variable in the environment that a test's users start with: the kernel
keeps it readable in /proc/PID/environ for as long as a process has not replaced its program.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VARIABLE = "SUBLET_TEST_MARK"

# A killed tree needs a moment until the last of it is reaped.
PATIENCE_SECONDS = 5.0

# Mounts that come and go by themselves on a machine that is in use.
RESTLESS = ("/run/user/", "/proc/sys/fs/binfmt_misc")


def marked(mark: str) -> Iterator[int]:
    """Yield the PIDs of the living processes whose environment carries *mark*."""
    needle = f"{VARIABLE}={mark}".encode()
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            environment = Path("/proc", entry, "environ").read_bytes()
        except OSError:
            continue  # gone meanwhile, or not ours to read
        if needle in environment.split(b"\0"):
            yield int(entry)


def describe(pid: int) -> str:
    """Return a process's PID and command line."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return f"process {pid}"
    return f"process {pid}: {b' '.join(words).decode(errors='replace').strip()}"


def mounts() -> set[str]:
    """Return the mount points of this process's mount namespace, with what is mounted there."""
    found = set()
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        kind = fields[fields.index("-") + 1]
        if not fields[4].startswith(RESTLESS):
            found.add(f"mount {fields[4]} ({kind}, {fields[3]})")
    return found


def files(places: list[Path]) -> set[str]:
    """Return every path below *places*."""
    found: set[str] = set()
    for place in places:
        for folder, below, names in os.walk(place):
            found.update(f"path {os.path.join(folder, name)}" for name in (*below, *names))
    return found


class Leaks:
    """Compares the machine after a test with the machine before it."""

    def __init__(self, mark: str) -> None:
        """Note what is there; *mark* tags the processes that must be gone in the end."""
        self._mark = mark
        self._places: list[Path] = []
        self._mounts = mounts()
        self._files: set[str] = set()

    def watch(self, *places: Path) -> None:
        """Note what is below *places* now; nothing may come to it."""
        self._places.extend(places)
        self._files |= files(list(places))

    def found(self) -> list[str]:
        """List what is there and was not before, at once."""
        processes = [describe(pid) for pid in marked(self._mark)]
        new_mounts = sorted(mounts() - self._mounts)
        return processes + new_mounts + sorted(files(self._places) - self._files)

    def check(self, patience: float = PATIENCE_SECONDS) -> None:
        """Fail unless everything is as before within *patience* seconds."""
        remaining = wait_until_empty(self.found, patience)
        assert not remaining, "left behind:\n  " + "\n  ".join(remaining)


def wait_until_empty(look: Callable[[], list[str]], patience: float) -> list[str]:
    """Call *look* until it returns an empty list, for *patience* seconds; return its last list."""
    deadline = time.monotonic() + patience
    while (seen := look()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return seen
