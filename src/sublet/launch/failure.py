"""From (phase, step, operation, errno) to a sentence that a person can act on.

The sentence has three parts: what was attempted, with its paths and IDs (``_attempt``); what the
kernel answered, in the words of the attempt where the bare errno would mislead (``_ANSWERS``); and
what to do (:mod:`sublet.launch.remedies`). Only a failure leads here, so looking at the machine
again, for the component of a path that denies or a sysctl that forbids, costs nobody anything.
"""

from __future__ import annotations

import errno
import os

from sublet.errors import (
    CannotExecuteError,
    CommandNotFoundError,
    HostError,
    NotDelegatedError,
    SetupError,
    SubletError,
)
from sublet.launch.remedies import Failure, remedy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sublet.host import Host
    from sublet.launch.report import Report
    from sublet.mounts.operations import Operation
    from sublet.plan.facts import Facts
    from sublet.plan.model import Plan

MAP_STEPS = ("uid_map", "gid_map", "setgroups_file", "newuidmap", "newgidmap", "readback")


def explain(report: Report, facts: Facts | None = None, host: Host | None = None) -> SubletError:
    """Return the error that a *report* of a failed set-up means.

    *facts* and *host*: of the machine it failed on; read again where they are not given.
    CommandNotFoundError (exit status 127) and CannotExecuteError (126) for the command itself,
    NotDelegatedError and HostError where these say it better, SetupError for the rest.
    """
    failure = Failure(report, facts, host)
    if report.phase == "maps" and report.step in MAP_STEPS:
        refused = _refused_maps(failure)
        if refused is not None:
            return refused
    hint, path = remedy(failure)
    what = f"{_attempt(failure)}: {_answer(failure)}"
    return _class(report)(
        what, phase=report.phase, path=path or failure.path, errno=report.errno, hint=hint
    )


def _class(report: Report) -> type[SubletError]:
    if report.phase == "exec":
        if report.step == "search" or report.errno in {errno.ENOENT, errno.ENOTDIR}:
            return CommandNotFoundError
        return CannotExecuteError
    if report.phase == "clone" and report.step in {"clone3", "unshare"}:
        return HostError
    return SetupError


def _refused_maps(failure: Failure) -> SubletError | None:
    """Return why nobody could write the maps, where the rules for them tell."""
    from sublet.plan.writers import choose_writer

    plan = failure.report.plan
    if not plan.maps:
        return None
    try:
        choose_writer(failure.facts, plan.maps[0])
    except (NotDelegatedError, HostError) as error:
        error.phase, error.errno = "maps", failure.report.errno
        return error
    return None


# ---------------------------------------------------------------- what was attempted


def _attempt(failure: Failure) -> str:
    operation = failure.operation
    if operation is not None:
        return _operation(operation)
    report = failure.report
    plan = report.plan
    by_step = _BY_STEP.get(report.step or "")
    if by_step:
        return by_step(plan)
    by_phase = _BY_PHASE.get(report.phase or "")
    return by_phase(plan) if by_phase else f"set-up failed in phase {report.phase}"


def _operation(operation: Operation) -> str:
    target = operation.target
    given = operation.__dict__
    source = given.get("source")
    if source is None and given.get("slot") is not None:
        source = f"descriptor {given['slot']!r}"
    if operation.kind == "bind":
        return f"cannot bind {source} to {target}"
    if operation.kind == "overlay":
        upper = f"{given['source']} over " if given["source"] else ""
        return f"cannot mount the overlay of {upper}{':'.join(given['lower'])} on {target}"
    sentences = {
        "device": f"cannot make the device {target}",
        "directory": f"cannot make the directory {target}",
        "file": f"cannot make the file {target}",
        "bind_file": f"cannot put a file in place at {target}",
        "symlink": f"cannot make the symbolic link {target}",
        "mask": f"cannot mask {target}",
        "remount": f"cannot change the mount at {target}",
        "chmod": f"cannot change the mode of {target}",
        "sysctl": f"cannot set the sysctl {target.replace('/', '.')} to {given.get('text')}",
        "console": f"cannot put the terminal in place at {target}",
    }
    return sentences.get(operation.kind, f"cannot mount {operation.kind} on {target}")


def _maps(plan: Plan, side: str) -> str:
    if not plan.maps:
        return "no map"
    extents = getattr(plan.maps[0], side).extents
    shown = ", ".join(str(extent) for extent in extents[:4])
    more = f" and {len(extents) - 4} more" if len(extents) > 4 else ""
    return f"{shown}{more} (inside outside count)"


def _command(plan: Plan) -> str:
    return plan.process.command or plan.process.argv[0]


def _who(plan: Plan) -> str:
    who = plan.credentials
    if who is None:
        return "the payload's user"
    return f"user {who.uid}, group {who.gid} inside"


def _groups(plan: Plan) -> str:
    groups = plan.credentials.groups if plan.credentials else None
    listed = ", ".join(str(group) for group in groups or ()) or "none"
    return f"cannot set the supplementary groups ({listed})"


def _namespaces(plan: Plan) -> str:
    return f"cannot make new namespaces ({', '.join(sorted(plan.namespaces))})"


def _execute(plan: Plan) -> str:
    return f"cannot execute {_command(plan)}"


_BY_STEP: dict[str, Callable[[Plan], str]] = {
    "clone3": _namespaces,
    "unshare": _namespaces,
    "setns": lambda plan: (
        f"cannot join the namespaces ({', '.join(join.namespace for join in plan.joins)})"
    ),
    "uid_map": lambda plan: f"cannot write the user ID map {_maps(plan, 'uid')}",
    "gid_map": lambda plan: f"cannot write the group ID map {_maps(plan, 'gid')}",
    "setgroups_file": lambda _: "cannot deny setgroups in the new user namespace",
    "newuidmap": lambda plan: (
        f"{plan.user_namespace.newuidmap} did not write the user ID map {_maps(plan, 'uid')}"
    ),
    "newgidmap": lambda plan: (
        f"{plan.user_namespace.newgidmap} did not write the group ID map {_maps(plan, 'gid')}"
    ),
    "readback": lambda plan: (
        f"the maps in force are not those asked for: users {_maps(plan, 'uid')}, groups"
        f" {_maps(plan, 'gid')}"
    ),
    "setgroups": _groups,
    "setresuid": lambda plan: f"cannot become {_who(plan)}",
    "setresgid": lambda plan: f"cannot become {_who(plan)}",
    "sethostname": lambda plan: f"cannot set the hostname {plan.hostname}",
    "setdomainname": lambda plan: f"cannot set the domain name {plan.domainname}",
    "search": lambda plan: f"{_command(plan)} was not found",
    "execve": _execute,
    "seccomp": lambda plan: f"cannot install the seccomp filter ({len(plan.seccomp)} bytes)",
    "pivot_root": lambda _: "cannot make the new root the root",
}

_BY_PHASE: dict[str, Callable[[Plan], str]] = {
    "start": lambda _: "the executor does not start",
    "decode": lambda _: "the executor does not accept the plan",
    "clone": _namespaces,
    "maps": lambda plan: f"cannot write the ID maps: users {_maps(plan, 'uid')}",
    "join": lambda plan: (
        f"cannot join the namespaces ({', '.join(join.namespace for join in plan.joins)})"
    ),
    "network": lambda _: "cannot bring the loopback interface up",
    "mounts": lambda _: "cannot change the mounts",
    "root": lambda _: "cannot enter the new root",
    "terminal": lambda _: "cannot open a terminal for the command",
    "descriptors": lambda plan: (
        "cannot pass the descriptors on"
        f" ({', '.join(str(one.number) for one in plan.process.descriptors)})"
    ),
    "directory": lambda plan: f"cannot enter the working directory {plan.process.directory}",
    "limits": lambda plan: f"cannot set the resource limits ({_limits(plan)})",
    "credentials": lambda plan: f"cannot take the credentials of {_who(plan)}",
    "exec": _execute,
    "supervise": lambda _: "cannot supervise the sandbox",
}


def _limits(plan: Plan) -> str:
    from sublet.plan.rlimits import NAMES

    return ", ".join(
        f"{NAMES[limit.resource]}={limit.soft}:{limit.hard}" for limit in plan.process.rlimits
    )


# ---------------------------------------------------------------- what the answer was


def _answer(failure: Failure) -> str:
    report = failure.report
    number = report.errno
    if report.step == "search":
        return f"it is in no directory of PATH ({report.plan.process.search_path})"
    if report.step in {"newuidmap", "newgidmap"} and number is None:
        return f"it ended with status {report.status}"
    if report.signal is not None:
        return f"the process that set the sandbox up was killed (signal {report.signal})"
    if number is None:
        return "the executor's own check failed"
    if failure.at_target and number in _AT_TARGET:
        return _AT_TARGET[number]
    # Kernel answers are shown as such: people search for these words.
    return f"{os.strerror(number)} ({report.step})"


_AT_TARGET = {
    errno.ENOTDIR: "there is a file where a directory is needed (Not a directory)",
    errno.EISDIR: "there is a directory where a file is needed (Is a directory)",
    errno.EROFS: "the destination lies under a read-only place (Read-only file system)",
    errno.ENOENT: "the destination does not exist (No such file or directory)",
    errno.EEXIST: "it exists already (File exists)",
    errno.ELOOP: "a symbolic link stands in the way (Too many levels of symbolic links)",
    errno.EACCES: "the destination may not be written to (Permission denied)",
    errno.EOVERFLOW: ("the owner has no mapping there (Value too large for defined data type)"),
}
