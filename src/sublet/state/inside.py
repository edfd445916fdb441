"""Run one of Sublet's own programs on a directory, inside a map, and take its answer."""

from __future__ import annotations

import os
import sys

from sublet.launch.spawn import spawn

from sublet._value import Value
from sublet.errors import StateError
from sublet.planners.inside import plan_inside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sublet.plan.facts import Facts
    from sublet.plan.model import Maps, UserNamespace


class Inside(Value):
    """Where a program of ours shall run: the caller's facts, and the map; ``maps`` None, no map."""

    facts: Facts
    maps: Maps | None
    user_namespace: UserNamespace

    def run(
        self,
        module: str,
        directory: str,
        *arguments: str,
        stdin: int | None = None,
        tick: Callable[[], None] | None = None,
    ) -> tuple[int, str]:
        """Run the program *module* of this package with *directory* as its working directory.

        Returns its exit status and what it wrote (both streams, at most 64 KiB). ``tick`` is
        called some times a second while it runs. Interrupted, the program is killed before the
        exception goes on.

        Raises SetupError where the sandbox could not be made, StateError where the program was
        killed.
        """
        interpreter, readable, paths = _interpreter()
        bootstrap = (
            f"import sys, runpy; sys.path[:0] = {paths!r}; "
            f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
        )
        plan = plan_inside(
            self.facts,
            self.maps,
            self.user_namespace,
            argv=(interpreter, "-I", "-S", "-B", "-c", bootstrap, *arguments),
            directory=directory,
            readable=readable,
        )
        output = os.memfd_create("output", os.MFD_CLOEXEC)
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            source = nothing if stdin is None else stdin
            with spawn(plan, {}, stdin=source, stdout=output, stderr=output) as launched:
                while tick is not None and not launched.ended(0.1):
                    tick()
                report = launched.wait()
            text = os.pread(output, 1 << 16, 0).decode("utf-8", "replace")
        finally:
            os.close(output)
            os.close(nothing)
        if report.ending != "exit":
            raise StateError(
                f"the program {module} was killed ({report.ending} {report.status})",
                path=directory,
            )
        return report.status, text

    def remove(self, directory: str) -> None:
        """Remove *directory* and all below, with the rights that its owners take."""
        status, text = self.run("sublet.archive.erase", directory)
        if status:
            raise StateError(
                f"cannot remove {directory}: {text.strip()}",
                path=directory,
                hint="If its files were made with another map, give the same --ids as then.",
            )
        os.rmdir(directory)


def _interpreter() -> tuple[str, tuple[str, ...], list[str]]:
    """Return the interpreter, what it needs to read beyond the system's directories, and its search
    path.
    """
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    paths = [package]
    try:
        import zstandard
    except ImportError:
        pass
    else:
        paths.append(os.path.dirname(os.path.dirname(os.path.abspath(zstandard.__file__))))
    prefix = sys.base_prefix
    needed = [prefix, *paths]
    readable = [path for path in needed if not path.startswith("/usr/") and path != "/usr"]
    # a path below another one of the list is there already
    outer = [
        path
        for path in readable
        if not any(path != other and path.startswith(f"{other}/") for other in readable)
    ]
    return os.path.realpath(sys.executable), tuple(dict.fromkeys(outer)), paths
