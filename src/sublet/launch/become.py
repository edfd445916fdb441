"""This process becomes the executor: no interpreter stays resident beside a running sandbox."""

from __future__ import annotations

import os
import sys

from sublet.errors import HostError
from sublet.launch.executor import command, find_executor, in_memory
from sublet.plan.codec import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from sublet.plan.model import Plan


def become(plan: Plan, slots: Mapping[str, int] | None = None) -> NoReturn:
    """Replace this process with the executor of *plan*.

    *plan*: a valid one, from a planner or decoded; the executor checks it all the same, but its
    refusal is terse. *slots*: the descriptor for each slot that the plan names. HostError where
    the executor cannot be executed.
    """
    given = slots or {}
    path = find_executor()
    fd = in_memory(encode(plan, checked=True))
    for inherited in (fd, *given.values()):
        os.set_inheritable(inherited, True)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # it is where the descriptor was closed from the start
            stream.flush()
    try:
        os.execv(path, command(path, fd, given))
    except OSError as error:
        raise HostError(
            f"the executor {path} cannot be executed: {error.strerror}",
            path=path,
            errno=error.errno,
            hint="Build it for this machine with `python3 csrc/build.py`, or install Sublet again.",
        ) from error
