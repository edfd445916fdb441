"""The arguments of newuidmap(1) and newgidmap(1): PROGRAM PID (INSIDE OUTSIDE COUNT)...

Newer releases of shadow also take ``fd:N`` for PID, N being an open descriptor of /proc/PID, which
cannot come to mean another process.
"""

from __future__ import annotations

from sublet._value import Value
from sublet.errors import InputError, MapError, NotationError
from sublet.ids.idmap import IdMap, extent
from sublet.ids.notation.numbers import parse_count, parse_id, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PID_LIMIT = 4194304
"""The kernel's limit on 64-bit machines (proc(5), pid_max): every process ID is below it."""


class NewIdMap(Value):
    """One call: ``program`` (argv[0]), ``id_map``, and the process by ``pid`` or ``proc_fd``.

    Exactly one of ``pid`` and ``proc_fd`` (a descriptor of the directory /proc/PID) is given,
    or it is an InputError.
    """

    program: str
    id_map: IdMap
    pid: int | None = None
    proc_fd: int | None = None

    def __post_init__(self) -> None:
        """Check that the process is named once."""
        if (self.pid is None) == (self.proc_fd is None):
            raise InputError(f"{self.program} needs either a process ID or a descriptor")


def parse(argv: Sequence[str]) -> NewIdMap:
    """Return the call that *argv*, program included, spells.

    NotationError where an argument is missing or no number; MapError where the map is none.
    """
    if len(argv) < 5 or len(argv) % 3 != 2:
        raise NotationError(
            f"{' '.join(map(shown, argv[:1])) or 'the command'} has {max(len(argv) - 1, 0)}"
            " arguments: a process, and three for each extent, are expected",
            hint="The form is: newuidmap PID INSIDE OUTSIDE COUNT [INSIDE OUTSIDE COUNT ...]",
        )
    program, process, *numbers = argv
    extents = []
    for at in range(0, len(numbers), 3):
        place = f"extent {at // 3 + 1} of {program}"
        inside = parse_id(numbers[at], f"{place}: inside ID")
        outside = parse_id(numbers[at + 1], f"{place}: outside ID")
        count = parse_count(numbers[at + 2], f"{place}: count")
        try:
            extents.append(extent(inside, outside, count))
        except MapError as error:
            raise MapError(f"{place}: {error.what}", hint=error.hint) from None
    id_map = IdMap(tuple(extents))
    if process.startswith("fd:"):
        return NewIdMap(program, id_map, proc_fd=parse_id(process[3:], "descriptor"))
    pid = parse_count(process, "process ID")
    if pid >= PID_LIMIT:
        raise NotationError(
            f"process ID {pid} is out of range", hint=f"Use a number below {PID_LIMIT}."
        )
    return NewIdMap(program, id_map, pid=pid)


def render(call: NewIdMap) -> list[str]:
    """Return the argument vector of the *call*, program included."""
    process = str(call.pid) if call.proc_fd is None else f"fd:{call.proc_fd}"
    return [call.program, process, *(word for e in call.id_map.extents for word in str(e).split())]
