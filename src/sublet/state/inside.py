"""Run one of Sublet's own programs on a directory, inside a map, and take its answer."""

from __future__ import annotations

import os
import sys

from sublet._value import Value
from sublet.errors import StateError, SubletError
from sublet.launch.spawn import spawn
from sublet.planners.inside import owns_everything, plan_inside, whole_maps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sublet.plan.facts import Facts
    from sublet.plan.model import Maps

TICK_SECONDS = 0.1
ANSWER_BYTES = 1 << 16


class Inside(Value):
    """Where trees and layers are written: the caller's facts, and the map; None: no namespace."""

    facts: Facts
    maps: Maps | None

    def run(
        self,
        module: str,
        directory: str,
        *arguments: str,
        stdin: int | None = None,
        held: int | None = None,
        tick: Callable[[], None] | None = None,
    ) -> tuple[int, str]:
        """Run the program *module* of this package with *directory* as its working directory.

        Returns its exit status and what it wrote (both streams, at most 64 KiB). ``held``: a
        descriptor that the program keeps open until its end, such as a lock. ``tick`` is called
        some times a second while it runs. Interrupted, the program is killed before the exception
        goes on; and it does not outlive this process.

        Raises SetupError where the sandbox could not be made, StateError where the program was
        killed.
        """
        return _run(
            self.facts, self.maps, module, directory, arguments, stdin=stdin, held=held, tick=tick
        )

    def remove(self, directory: str) -> None:
        """Remove *directory* and all below, whichever map of the caller's it was written with.

        Raises StateError where that cannot be done.
        """
        if not os.path.lexists(directory):
            return
        try:
            self._empty(directory)
            os.rmdir(directory)
        except OSError as error:
            raise _not_removed(directory, f"{error.filename}: {error.strerror}") from error

    def _empty(self, directory: str) -> None:
        if owns_everything(self.facts):
            from sublet.archive.erase import DIRECTORY, erase

            descriptor = os.open(directory, DIRECTORY)
            try:
                erase(descriptor)
            finally:
                os.close(descriptor)
            return
        facts = self.facts
        if facts.subuids.source == "none":
            # a run with one ID does not ask for them, and may find what another run left
            from sublet.host import read_facts

            facts = read_facts()
        try:
            status, text = _run(facts, whole_maps(facts), "sublet.archive.erase", directory)
        except SubletError as error:
            raise _not_removed(directory, error.what) from error
        if status:
            raise _not_removed(directory, text.strip())


def _not_removed(directory: str, why: str) -> StateError:
    return StateError(
        f"cannot remove {directory}: {why}",
        path=directory,
        hint="Its files may belong to subordinate IDs that are not delegated to you any more;"
        f" as root: rm -rf {directory}",
    )


def _run(
    facts: Facts,
    maps: Maps | None,
    module: str,
    directory: str,
    arguments: tuple[str, ...] = (),
    *,
    stdin: int | None = None,
    held: int | None = None,
    tick: Callable[[], None] | None = None,
) -> tuple[int, str]:
    interpreter, readable, paths = _interpreter()
    bootstrap = (
        f"import sys, runpy; sys.path[:0] = {paths!r}; "
        f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    plan = plan_inside(
        facts,
        maps,
        argv=(interpreter, "-I", "-S", "-B", "-c", bootstrap, *arguments),
        directory=directory,
        readable=readable,
        held=None if held is None else "held",
    )
    output = os.memfd_create("output", os.MFD_CLOEXEC)
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        source = nothing if stdin is None else stdin
        slots = {} if held is None else {"held": held}
        with spawn(plan, slots, stdin=source, stdout=output, stderr=output) as launched:
            while tick is not None and launched.state != "ended":
                try:
                    launched.wait(TICK_SECONDS)
                except TimeoutError:
                    tick()
            report = launched.wait()
        text = os.pread(output, ANSWER_BYTES, 0).decode("utf-8", "replace")
    finally:
        os.close(output)
        os.close(nothing)
    if report.ending != "exit":
        number = f" by signal {report.signal}" if report.signal else ""
        raise StateError(f"the program {module} was killed{number}", path=directory)
    return report.status or 0, text


def _interpreter() -> tuple[str, tuple[str, ...], list[str]]:
    """Return the interpreter, what it needs to read beyond the system's directories, and sys.path.

    The interpreter is that of a virtual environment's base: the environment adds nothing that the
    programs need.
    """
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    paths = [package]
    # not imported, which takes longer than all of this: looked for
    paths += [
        place
        for place in sys.path
        if place.startswith("/") and place != package and os.path.isdir(f"{place}/zstandard")
    ]
    interpreter = os.path.realpath(sys.executable)
    needed = [
        os.path.realpath(sys.base_prefix),
        os.path.realpath(sys.base_exec_prefix),
        os.path.dirname(os.path.dirname(interpreter)),
        *paths,
    ]
    readable = [path for path in needed if path not in {"/", "/usr"} and path[:5] != "/usr/"]
    # a path below another one of the list is there already
    outer = [
        path
        for path in readable
        if not any(path != other and path.startswith(f"{other}/") for other in readable)
    ]
    return interpreter, tuple(dict.fromkeys(outer)), paths
