"""The command line: one module for each verb, imported only when it is asked for."""

from __future__ import annotations

import os
import sys

from sublet.errors import InputError, SubletError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_FAILED = 125
EXIT_INTERRUPTED = 130
VERBS = ("run", "rm", "list", "plan", "help")


def main(argv: Sequence[str]) -> int:
    """Carry the command line *argv* (without the program's name) out; return the exit status.

    `sublet run` does not return: this process becomes the executor.
    """
    _occupy_standard_descriptors()
    try:
        return _dispatch(argv)
    except SubletError as error:
        from sublet.launch.reporter import say

        say(error)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has seen enough. Nothing may be left to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _occupy_standard_descriptors() -> None:
    """Let nothing that is opened from now on be 0, 1 or 2: those are handed to the command."""
    while (fd := os.open(os.devnull, os.O_RDWR)) < 3:
        continue
    os.close(fd)


def _dispatch(argv: Sequence[str]) -> int:
    verb = argv[0] if argv else ""
    rest = argv[1:]
    if verb == "run":
        from sublet.cli import run

        return run.main(rest)
    if verb == "rm":
        from sublet.cli import rm

        return rm.main(rest)
    if verb == "list":
        from sublet.cli import list as list_

        return list_.main(rest)
    if verb == "plan":
        from sublet.cli import plan

        return plan.main(rest)
    if verb == "--version":
        from sublet._version import __version__

        print(f"sublet {__version__}")
        return 0
    from sublet.cli import _help

    if verb in {"help", "--help", "-h"}:
        return _help.main(rest)
    if not verb:
        sys.stderr.write(_help.OVERVIEW)
        return EXIT_FAILED
    from sublet.cli._options import did_you_mean

    what = "option" if verb.startswith("-") else "verb"
    raise InputError(
        f"there is no {what} {verb!r}",
        hint=did_you_mean(verb, (*VERBS, "--version", "--help")) or "`sublet help` lists them.",
    )
