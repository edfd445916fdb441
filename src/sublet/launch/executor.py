"""The executor's program, the plan in a descriptor for it, and the reporter it ends as."""

from __future__ import annotations

import os
import sys

from sublet.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

OVERRIDE = "SUBLET_EXEC"
"""Environment variable that names another executor, such as one built with sanitizers."""


# Isolated (-I) and without site (-S), the interpreter finds the standard library and nothing else,
# whatever the environment and the working directory hold; so the package's place is passed along.
BOOTSTRAP = (
    "import sys; sys.path.append(sys.argv[1]);"
    " from sublet.launch.reporter import main; sys.exit(main(sys.argv[2:]))"
)


def find_executor(environ: Mapping[str, str] | None = None) -> str:
    """Return the path of sublet-exec: beside this package, or what $SUBLET_EXEC names.

    HostError where it is missing or not executable.
    """
    path = (os.environ if environ is None else environ).get(OVERRIDE)
    if path:
        remedy = f"Correct or unset {OVERRIDE}."
    else:
        path = os.path.join(os.path.dirname(os.path.dirname(__file__)), "sublet-exec")
        remedy = "Build it with `python3 csrc/build.py` in a checkout, or install Sublet again."
    if os.access(path, os.X_OK):
        return path
    missing = not os.path.lexists(path)
    raise HostError(
        f"the executor {path} is {'missing' if missing else 'not executable'}",
        path=path,
        hint=remedy if missing else f"{remedy} Its file system may be mounted noexec.",
    )


def in_memory(wire: bytes) -> int:
    """Return a memory file that holds *wire* (memfd_create(2)).

    The descriptor is close-on-exec, and the caller's to close. It needs no seals: the executor
    copies the plan once, and checks and carries out the copy.
    """
    fd = os.memfd_create("sublet-plan", os.MFD_CLOEXEC)
    try:
        rest = memoryview(wire)
        while rest:
            rest = rest[os.write(fd, rest) :]
    except OSError:
        os.close(fd)
        raise
    return fd


def command(
    path: str, plan: int, slots: Mapping[str, int], channel: int | None = None
) -> list[str]:
    """Return the executor's argv, given descriptors of the plan, the slots and the channel."""
    argv = [path]
    if channel is not None:
        argv += ("--channel", str(channel))
    for name, fd in slots.items():
        argv += ("--slot", f"{name}={fd}")
    return [*argv, "--plan", str(plan)]


def reporter_command(report: str | None = None) -> tuple[str, ...]:
    """Return the reporter's argv, for the plan.

    *report*: where the JSON report goes, as reporter.write() takes it. Empty where there is no
    interpreter to name: the executor then says it in its own terse words.
    """
    if not sys.executable:
        return ()
    place = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    argv = (sys.executable, "-I", "-S", "-c", BOOTSTRAP, place)
    if report is None:
        return argv
    return (*argv, "--report", report)
