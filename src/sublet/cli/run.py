"""`sublet run`: a command in a sandbox or a root file system.

What is on the way of every run stands here and is imported at once; what only some need is imported
where they need it.
"""

from __future__ import annotations

import os

from sublet._value import replace
from sublet.cli._options import Given, parse
from sublet.errors import InputError, SubletError
from sublet.host import read_facts
from sublet.launch.executor import reporter_command
from sublet.planners.identity import parse_ids
from sublet.planners.request import Account, Request, RootFs
from sublet.planners.run import plan_run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from sublet.cli._options import Table
    from sublet.host.read import Part
    from sublet.plan.facts import Facts
    from sublet.plan.model import Plan, Rlimit
    from sublet.planners.request import BindMount, Ids, TmpfsMount
    from sublet.seccomp.profile import Profile

OPTIONS: Table = {
    "--ids": ("ids", "list"),
    "--user": ("user", "value"),
    "--view": ("view", "value"),
    "--rootfs": ("rootfs", "value"),
    "--name": ("name", "value"),
    "--writable": ("writable", "flag"),
    "--read-only": ("read-only", "flag"),
    "-v": ("mounts", "list"),
    "--bind": ("mounts", "list"),
    "--rw": ("mounts", "list"),
    "--tmpfs": ("mounts", "list"),
    "--dev-bind": ("mounts", "list"),
    "-w": ("workdir", "value"),
    "--workdir": ("workdir", "value"),
    "-e": ("env", "list"),
    "--env": ("env", "list"),
    "--clearenv": ("clearenv", "flag"),
    "-t": ("tty", "flag"),
    "--tty": ("tty", "flag"),
    "-i": ("interactive", "flag"),
    "--interactive": ("interactive", "flag"),
    "--ulimit": ("ulimit", "list"),
    "--timeout": ("timeout", "value"),
    "--die-with-parent": ("die-with-parent", "flag"),
    "--net": ("net", "value"),
    "--hostname": ("hostname", "value"),
    "--cap-add": ("cap-add", "list"),
    "--cap-drop": ("cap-drop", "list"),
    "--new-privs": ("new-privs", "flag"),
    "--no-new-privs": ("no-new-privs", "flag"),
    "--seccomp": ("seccomp", "value"),
    "--plan": ("plan", "flag"),
    "--json": ("json", "flag"),
    "--report": ("report", "value"),
}
ONE_ID = frozenset({"keep", "root", "host"})


def main(argv: Sequence[str]) -> int:
    """Run a command; only --help and --plan return."""
    given = parse("run", OPTIONS, argv)
    if "help" in given.flags:
        from sublet.cli._help import main as show

        return show(["run"])
    report = _report_place(given.values.get("report"))
    try:
        _refuse_contradictions(given)
        # A slot is held open by the supervisor, and handed on to the reporter.
        slots = {"report": int(report.partition("/")[0])} if report is not None else {}
        plan = make_plan(given, slots, report)
        if "plan" in given.flags:
            _print_plan(plan, as_json="json" in given.flags)
            return 0
        from sublet.launch.become import become

        return become(plan, slots)
    except SubletError as error:
        if report is not None:
            _report_failure(error, report)
        raise


def make_plan(given: Given, slots: dict[str, int], report: str | None = None) -> Plan:
    """Return the plan; descriptors that are held while it runs are added to *slots*.

    *report*: where the JSON report goes, as launch.reporter.write() takes it.
    """
    ids_texts = given.all("ids")
    root: Literal["system", "host"] | RootFs = "system"
    if "rootfs" in given.values or "name" in given.values:
        from sublet.cli import _rootfs

        ids, facts, root = _rootfs.find(given, ids_texts, slots)
    else:
        ids = parse_ids(ids_texts or ["keep"])
        facts = read_facts(need=needed(ids))
        view = given.values.get("view", "system")
        if view not in {"system", "host"}:
            raise InputError(
                f"there is no view {view!r}",
                hint="There are system and host; --rootfs PATH is for a tree of another system.",
            )
        root = "host" if view == "host" else "system"
    request = make_request(given, facts, ids, root, reporter=reporter_command(report))
    if slots:
        request = replace(request, slots=tuple(slots))
    return plan_run(request, facts)


def needed(ids: Ids) -> tuple[Part, ...]:
    """Return the parts of the facts that a run with these *ids* needs."""
    always: tuple[Part, ...] = ("sysctls", "root")
    return always if ids.layout in ONE_ID else (*always, "subids", "helpers")


def make_request(
    given: Given,
    facts: Facts,
    ids: Ids,
    root: Literal["system", "host"] | RootFs,
    *,
    reporter: tuple[str, ...] = (),
) -> Request:
    """Return the request that the options make. InputError names the option that is wrong."""
    values, flags = given.values, given.flags
    directory = facts.directory or "/"
    limits: tuple[Rlimit, ...] = ()
    timeout = 0
    if "ulimit" in given.lists or "timeout" in values:
        from sublet.planners.limits import parse_seconds, parse_ulimit

        limits = tuple(parse_ulimit(text) for text in given.all("ulimit"))
        timeout = parse_seconds(values["timeout"]) if "timeout" in values else 0
    net = values.get("net", "none")
    if net not in {"none", "host"}:
        raise InputError(f"there is no network {net!r}", hint="There are --net none and host.")
    interactive = not given.rest and facts.terminals[0] and facts.terminals[1]
    return Request(
        tuple(given.rest) or _shell(root),
        ids=ids,
        user=_account(values.get("user"), root, ids, facts),
        root=root,
        mounts=_mounts(given.lists["mounts"], directory) if "mounts" in given.lists else (),
        directory=_workdir(values.get("workdir"), directory),
        environment=tuple(os.environ.items()),
        changes=tuple(_variable(text) for text in given.all("env")),
        clear="clearenv" in flags,
        hostname=_hostname(values.get("hostname")),
        net="host" if net == "host" else "none",
        cap_add=tuple(given.all("cap-add")),
        cap_drop=tuple(given.all("cap-drop")),
        new_privs=True if "new-privs" in flags else False if "no-new-privs" in flags else None,
        limits=limits,
        seccomp=_seccomp(values.get("seccomp", "default")),
        timeout_ms=timeout,
        terminal="tty" in flags or interactive,
        die_with_parent="die-with-parent" in flags,
        reporter=reporter,
        report_always="report" in values,
    )


def _refuse_contradictions(given: Given) -> None:
    values, flags = given.values, given.flags
    rooted = "rootfs" in values or "name" in values
    if "view" in values and rooted:
        raise InputError(
            "--view and --rootfs exclude one another",
            hint="A root file system is all that there is to see; -v adds parts of the machine.",
        )
    ways = [f"--{way}" for way in ("writable", "read-only") if way in flags]
    ways += ["--name"] if "name" in values else []
    if ways and not rooted:
        raise InputError(
            f"{ways[0]} is about a root file system, and --rootfs is not given",
            hint="The views are read-only as they are; --rw PATH makes a path writable.",
        )
    if len(ways) > 1:
        raise InputError(
            f"{ways[0]} and {ways[1]} exclude one another",
            hint="Writes vanish by default; --name NAME keeps them apart from the root file"
            " system, --writable puts them into it, and --read-only refuses them.",
        )
    if {"new-privs", "no-new-privs"} <= flags:
        raise InputError("--new-privs and --no-new-privs exclude one another")
    if "json" in flags and "plan" not in flags:
        raise InputError("--json goes with --plan", hint="--report FILE writes the result as JSON.")


def _shell(root: Literal["system", "host"] | RootFs) -> tuple[str, ...]:
    shell = os.environ.get("SHELL", "")
    return (shell if shell.startswith("/") and isinstance(root, str) else "/bin/sh",)


def _account(
    text: str | None, root: Literal["system", "host"] | RootFs, ids: Ids, facts: Facts
) -> Account | None:
    """Look the user up inside; for a view, the planner knows by itself who it is without --user."""
    if text is None and isinstance(root, str):
        return None
    from sublet.cli import _rootfs

    if text is not None:
        return _rootfs.look_up(text, root)
    return _rootfs.whoever(root, ids, facts)


def _mounts(given: list[tuple[str, str]], directory: str) -> tuple[BindMount | TmpfsMount, ...]:
    from sublet.planners import binds

    mounts: list[BindMount | TmpfsMount] = []
    for option, text in given:
        if option == "--rw":
            mounts.append(binds.parse_writable(text, directory))
        elif option == "--tmpfs":
            mounts.append(binds.parse_tmpfs(text))
        elif option == "--dev-bind":
            mounts.append(binds.parse_device_bind(text, directory))
        else:
            mounts.append(binds.parse_bind(text, directory))
    return tuple(mounts)


def _workdir(text: str | None, directory: str) -> str | None:
    if text is None:
        return None
    if not text:
        raise InputError("--workdir: the path is empty")
    return os.path.normpath(os.path.join(directory, text))


def _variable(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    if not name:
        raise InputError(f"--env {text!r} names no variable", hint="Write NAME or NAME=VALUE.")
    return name, value if equals else None


def _hostname(text: str | None) -> str | None:
    if text is not None and not 0 < len(os.fsencode(text)) <= 64:
        raise InputError(
            f"--hostname: the name has {len(os.fsencode(text))} bytes",
            hint="The kernel takes 1 to 64.",
        )
    return text


def _seccomp(text: str) -> Literal["default", "none"] | Profile:
    if text == "none":
        return "none"
    if text == "default":
        return "default"
    import json

    from sublet.errors import NotationError
    from sublet.seccomp.profile import parse_profile

    try:
        with open(text, "rb") as file:
            document = json.loads(file.read(16 << 20))
    except OSError as error:
        raise InputError(
            f"--seccomp: cannot read {text}: {error.strerror}",
            path=text,
            errno=error.errno,
            hint="Give a file with a profile in Docker's JSON form, or none.",
        ) from None
    except ValueError as error:
        raise InputError(
            f"--seccomp: {text} is not JSON: {error}",
            path=text,
            hint="A profile has Docker's JSON form: defaultAction, architectures, syscalls.",
        ) from None
    try:
        return parse_profile(document)
    except NotationError as error:
        raise InputError(f"--seccomp: {text}: {error.what}", path=text, hint=error.hint) from None


def _report_place(text: str | None) -> str | None:
    """Return where --report goes, as launch.reporter.write() takes it: FD, or FD/NAME."""
    if text is None:
        return None
    kind, _, number = text.partition(":")
    if kind != "fd":
        directory, name = os.path.split(os.path.abspath(text))
        if not text or not name or text.endswith("/"):
            raise InputError(f"--report {text!r} names no file")
        try:
            return f"{os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)}/{name}"
        except OSError as error:
            raise InputError(
                f"--report {text}: {directory}: {error.strerror}", errno=error.errno
            ) from None
    try:
        if not (number.isascii() and number.isdigit()):
            raise OSError
        os.fstat(int(number))
    except (OSError, OverflowError):
        raise InputError(
            f"--report {text}: there is no such open descriptor",
            hint="Write fd:N, and open N for writing: sublet run --report fd:3 ... 3>report.json",
        ) from None
    if int(number) <= 2:
        # These are the command's own; the supervisor lets go of them, so that a pipe's reader sees
        # its end as soon as the command is done with it.
        import fcntl

        return str(fcntl.fcntl(int(number), fcntl.F_DUPFD_CLOEXEC, 3))
    return number


def _report_failure(error: SubletError, report: str) -> None:
    """Write the report of a run that ended before the executor could."""
    from sublet.launch.reporter import write

    whole = {
        "version": 1,
        "ending": "setup",
        "exit_code": error.exit_code,
        "error": {"what": error.what, "hint": error.hint, "path": error.path},
    }
    try:
        write(whole, report)
    except OSError as failed:
        raise InputError(
            f"the report cannot be written: {failed.strerror}", errno=failed.errno
        ) from error


def _print_plan(plan: Plan, *, as_json: bool) -> None:
    if as_json:
        from sublet.plan.jsonform import to_json

        print(to_json(plan))
        return
    from sublet.plan.explain import explain

    print("\n".join(explain(plan)))
