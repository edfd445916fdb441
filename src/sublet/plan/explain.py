"""A plan in plain sentences, in the order in which things happen, for people.

Everything that matters for what the payload can see and do is said. What is only workmanship, such
as missing parent directories that are made on the way, is left to the JSON twin.
"""

from __future__ import annotations

from sublet.plan import capabilities, rlimits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from sublet.ids import Extent, IdMap
    from sublet.mounts.operations import Operation
    from sublet.plan.model import Credentials, Plan

_NAMESPACES = ("user", "mount", "pid", "net", "ipc", "uts", "cgroup", "time")
_FLAGS = {
    "recursive": "with what is mounted below",
    "outside": "made with the caller's own rights",
    "own_map": "its IDs mapped with the sandbox's own map",
    "optional": "if it is there",
    "existing": "onto what must be there",
    "userxattr": "its marks in user.overlay attributes",
    "volatile": "never synced to disk",
    "if_missing": "unless it is there already",
    "exclusive": "which must not be there yet",
}
_SETS = ("effective", "permitted", "inheritable", "ambient", "bounding")


def explain(plan: Plan) -> list[str]:
    """Return the sentences, one a line, for a valid plan.

    What is not printable (a plan may come from anywhere) is shown as an escape, so that no terminal
    obeys it.
    """
    lines = [
        *_namespaces(plan),
        *_ids(plan),
        *_names(plan),
        *_network(plan),
        *_root(plan),
        *_payload(plan),
        *_supervision(plan),
        _command(plan),
    ]
    return [_printable(line[0].upper() + line[1:] + ".") for line in lines]


def _printable(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def _listed(words: Iterable[str]) -> str:
    found = list(words)
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# ---------------------------------------------------------------- namespaces and IDs


def _namespaces(plan: Plan) -> Iterable[str]:
    made = [name for name in _NAMESPACES if name in plan.namespaces]
    if made:
        plural = "s" if len(made) > 1 else ""
        yield f"make new {_listed(made)} namespace{plural}"
    for join in plan.joins:
        yield f"enter the {join.namespace} namespace that is given as {join.slot}"
    if not made and not plan.joins:
        yield "make no namespaces"
    if plan.lock_namespaces:
        yield "allow no further user namespaces inside"


def _ids(plan: Plan) -> Iterable[str]:
    own = "user" in plan.namespaces
    for index, maps in enumerate(plan.maps):
        if not index and own:
            title = "map {} IDs from inside to the parent user namespace"
        elif not index:
            title = "map {} IDs by the sandbox's own map"
        else:
            title = f"map {{}} IDs of mounts with map {index}, from disk to what is seen"
        if maps.uid == maps.gid:
            yield f"{title.format('user and group')}: {_map(maps.uid)}"
        else:
            yield f"{title.format('user')}: {_map(maps.uid)}"
            yield f"{title.format('group')}: {_map(maps.gid)}"
    user = plan.user_namespace
    if user.writer == "self":
        yield "let the new process write these maps itself"
    elif user.writer == "direct":
        yield "write these maps from outside, with privileges over the parent user namespace"
    elif user.writer == "helpers":
        yield f"have {user.newuidmap} and {user.newgidmap} write these maps"
    if user.setgroups == "deny":
        yield "deny setgroups inside"
    ids = [
        f"{noun} {number} inside"
        for noun, number in (("user", user.setup_uid), ("group", user.setup_gid))
        if number is not None
    ]
    if ids:
        yield f"set up as {_listed(ids)}"


def _map(map_: IdMap) -> str:
    return "; ".join(_extent(one) for one in map_.extents)


def _extent(one: Extent) -> str:
    if one.count == 1:
        return f"{int(one.inside)} is {int(one.outside)}"
    inside = f"{int(one.inside)} to {one.inside_end - 1}"
    return f"{inside} are {int(one.outside)} to {one.outside_end - 1} ({one.count} IDs)"


# ---------------------------------------------------------------- names and network


def _names(plan: Plan) -> Iterable[str]:
    if plan.hostname is not None:
        yield f"name the host {plan.hostname}"
    if plan.domainname is not None:
        yield f"name the domain {plan.domainname}"


def _network(plan: Plan) -> Iterable[str]:
    if "net" in plan.namespaces:
        yield (
            "give it no network but its own loopback interface"
            if plan.loopback
            else "give it no network, not even loopback"
        )
    elif not any(join.namespace == "net" for join in plan.joins):
        yield "share the caller's network"


# ---------------------------------------------------------------- the root and its operations


def _root(plan: Plan) -> Iterable[str]:
    if plan.root_propagation != "keep":
        yield f"set the propagation of all mounts to {plan.root_propagation}"
    for index, operation in enumerate(plan.operations):
        yield f"[{index}] {_operation(operation)}"
    if plan.pivot:
        yield "make the mount at / the root and detach the old one"
    elif plan.operations:
        yield "keep the present root"


def _operation(operation: Operation) -> str:
    values = operation.__dict__
    attributes = values.get("attributes_set", frozenset())
    # The one attribute that everybody looks for stands with the verb.
    access = " read-only" if "read_only" in attributes else ""
    parts = [_VERBS[operation.kind](values, operation.flags, access)]
    parts += _details(values, operation)
    return ", ".join(parts)


def _details(values: dict[str, Any], operation: Operation) -> Iterable[str]:
    if values.get("size"):
        yield f"at most {_size(values['size'])}"
    if values.get("mode") is not None and operation.kind != "chmod":
        yield f"mode {values['mode']:04o}"
    for field, noun in (("uid", "user"), ("gid", "group")):
        if values.get(field) is not None:
            yield f"of {noun} {values[field]}"
    if values.get("map") is not None:
        yield f"its IDs mapped with map {values['map']}"
    yield from sorted(values.get("attributes_set", frozenset()) - {"read_only"})
    for name in sorted(values.get("attributes_clear", frozenset())):
        yield f"not {name.replace('_', '-')}"
    if values.get("propagation", "keep") != "keep":
        yield f"propagation {values['propagation']}"
    if values.get("options"):
        yield f"options {' '.join(values['options'])}"
    for flag, phrase in _FLAGS.items():
        if flag in operation.flags:
            yield phrase


def _size(size: int) -> str:
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size % unit == 0:
            return f"{size // unit} {name}"
    return _counted(size, "byte")


def _given(values: dict[str, Any]) -> str:
    if values["slot"] is not None:
        return f"what is given as {values['slot']}"
    return str(values["source"])


def _bind(values: dict[str, Any], _flags: frozenset[str], access: str) -> str:
    return f"bind {_given(values)}{access} at {values['target']}"


def _overlay(values: dict[str, Any], flags: frozenset[str], access: str) -> str:
    lower = " over ".join(values["lower"])
    if "scratch" in flags:
        access = ", changes in memory and dropped at the end"
    elif values["source"] is not None:
        access = f", changes in {values['source']}{access}"
    else:
        access = " read-only"
    return f"overlay {lower} at {values['target']}{access}"


def _fresh(noun: str) -> Callable[[dict[str, Any], frozenset[str], str], str]:
    def sentence(values: dict[str, Any], _flags: frozenset[str], access: str) -> str:
        return f"mount {noun}{access} at {values['target']}"

    return sentence


def _device(values: dict[str, Any], flags: frozenset[str], _access: str) -> str:
    number = f"({values['device_major']}:{values['device_minor']})"
    if "mknod" in flags:
        return f"make the character device {values['target']} {number}"
    return f"bind the character device {values['source']} {number} at {values['target']}"


def _file(values: dict[str, Any], _flags: frozenset[str], _access: str) -> str:
    return f"write the file {values['target']} {_content(values)}"


def _bind_file(values: dict[str, Any], _flags: frozenset[str], access: str) -> str:
    return f"mount a file{access} at {values['target']} {_content(values)}"


def _content(values: dict[str, Any]) -> str:
    if values["slot"] is not None:
        return f"with what is given as {values['slot']}"
    return f"({_counted(len(values['content']), 'byte')})"


def _remount(values: dict[str, Any], _flags: frozenset[str], access: str) -> str:
    return f"change the mount at {values['target']}{access and ' to read-only'}"


_VERBS: dict[str, Callable[[dict[str, Any], frozenset[str], str], str]] = {
    "bind": _bind,
    "overlay": _overlay,
    "tmpfs": _fresh("an empty tmpfs"),
    "proc": _fresh("a new procfs"),
    "sysfs": _fresh("a new sysfs"),
    "devpts": _fresh("a new devpts"),
    "mqueue": _fresh("the new message queues"),
    "cgroup2": _fresh("the cgroup hierarchy"),
    "device": _device,
    "directory": lambda values, _flags, _access: f"make the directory {values['target']}",
    "file": _file,
    "bind_file": _bind_file,
    "symlink": lambda values, _flags, _access: f"link {values['target']} to {values['text']}",
    "mask": lambda values, _flags, _access: f"hide {values['target']}",
    "remount": _remount,
    "chmod": lambda values, _flags, _access: (
        f"set the mode of {values['target']} to {values['mode']:04o}"
    ),
    "sysctl": lambda values, _flags, _access: (
        f"set the sysctl {values['target'].replace('/', '.')} to {values['text']}"
    ),
    "console": lambda values, _flags, _access: f"show the terminal at {values['target']}",
}


# ---------------------------------------------------------------- the payload


def _payload(plan: Plan) -> Iterable[str]:
    process = plan.process
    if process.terminal:
        yield "give it a terminal of its own, relayed to the caller's"
    for descriptor in process.descriptors:
        yield f"pass {descriptor.slot} on as descriptor {descriptor.number}"
    for limit in process.rlimits:
        name = rlimits.NAMES[limit.resource]
        yield f"limit {name} to {_limit(limit.soft)}, at most {_limit(limit.hard)}"
    if plan.credentials is not None:
        yield from _credentials(plan.credentials)
    if plan.seccomp:
        count = _counted(len(plan.seccomp) // 8, "instruction")
        yield f"filter its system calls (seccomp, {count})"


def _limit(number: int) -> str:
    return "unlimited" if number == rlimits.UNLIMITED else str(number)


def _credentials(who: Credentials) -> Iterable[str]:
    ids = [
        f"{noun} {number}"
        for noun, number in (("user", who.uid), ("group", who.gid))
        if number is not None
    ]
    if ids:
        yield f"run it as {_listed(ids)} inside"
    if who.groups is not None:
        groups = _listed(str(group) for group in who.groups) if who.groups else "none"
        yield f"set its supplementary groups: {groups}"
    by_mask: dict[int, list[str]] = {}
    for field in _SETS:
        by_mask.setdefault(getattr(who, field), []).append(field)
    sets = "; ".join(f"{_listed(fields)}: {_mask(bits)}" for bits, fields in by_mask.items())
    yield f"set its capabilities: {sets}"
    if who.securebits:
        yield f"set its securebits to {who.securebits:#x}"
    if who.no_new_privs:
        yield "let it gain no privileges by executing files (no_new_privs)"


def _mask(bits: int) -> str:
    if bits == capabilities.ALL:
        return "all"
    missing = capabilities.ALL & ~bits
    if missing.bit_count() < 8 and not bits & ~capabilities.ALL:
        return f"all but {' '.join(capabilities.names(missing))}"
    return " ".join(capabilities.names(bits)) or "none"


def _supervision(plan: Plan) -> Iterable[str]:
    supervision = plan.supervision
    if supervision.init:
        yield "put an init beside it that reaps its orphans and passes signals on"
    if supervision.die_with_parent:
        yield "kill it when the program that started it ends"
    if supervision.timeout_ms:
        yield f"kill it after {supervision.timeout_ms / 1000:g} s"
    if supervision.sync_start:
        yield "wait for the starting program's word before it runs"
    if supervision.reporter:
        when = "at the end" if supervision.report_always else "on failure"
        yield f"run {_shell(supervision.reporter)} {when}, to report"


def _command(plan: Plan) -> str:
    process = plan.process
    parts = [f"run {_shell(process.argv)}"]
    if process.command is not None and process.command != process.argv[0]:
        parts.append(f"from the file {process.command}")
    if process.directory is not None:
        parts.append(f"in {process.directory}")
    if process.new_session and not process.terminal:
        parts.append("in a session of its own")
    if process.umask is not None:
        parts.append(f"with umask {process.umask:04o}")
    count = len(process.environment)
    parts.append(f"with {_counted(count, 'environment variable') if count else 'no environment'}")
    return ", ".join(parts)


def _shell(words: Iterable[str]) -> str:
    import shlex

    return shlex.join(words)
