"""The plan: exactly what the kernel will be asked, in order. Frozen values, no live descriptors.

Names and meanings are those of spec/wire.toml; docs/protocol.md says when each part is used.
"""

from __future__ import annotations

from sublet._value import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from sublet.ids import IdMap
    from sublet.mounts.operations import Operation, Propagation

    Namespace = Literal["user", "mount", "pid", "net", "ipc", "uts", "cgroup", "time"]
    Writer = Literal["none", "self", "direct", "helpers"]


class Maps(Value):
    """An ID map for users and one for groups."""

    uid: IdMap
    gid: IdMap


class Join(Value):
    """A namespace to enter instead of making one: its kind, and the slot that holds its descriptor."""

    namespace: Namespace
    slot: str


class UserNamespace(Value):
    """How the IDs of the new user namespace are set up.

    ``writer``: who writes the maps (the first of the plan's ``maps``). ``newuidmap``, ``newgidmap``: paths of the helpers,
    outside. ``setup_uid``, ``setup_gid``: inside IDs that set-up acts as; None: the caller's as they come.
    """

    writer: Writer = "none"
    setgroups: Literal["allow", "deny"] = "allow"
    setup_uid: int | None = None
    setup_gid: int | None = None
    newuidmap: str | None = None
    newgidmap: str | None = None


class Credentials(Value):
    """Who the payload is. IDs are inside IDs; ``groups`` None: left as they are.

    Capability sets are 64-bit masks (capabilities(7)); ``securebits`` as in prctl(2).
    """

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None
    effective: int = 0
    permitted: int = 0
    inheritable: int = 0
    ambient: int = 0
    bounding: int = 0
    securebits: int = 0
    no_new_privs: bool = True


class Rlimit(Value):
    """A resource limit: RLIMIT_* number, soft and hard value (18446744073709551615: unlimited)."""

    resource: int
    soft: int
    hard: int


class Descriptor(Value):
    """A descriptor for the payload: the slot's, at this number."""

    slot: str
    number: int


class Process(Value):
    """What is executed. ``command``: the file, None: argv[0]; without a slash it is searched in ``search_path``.

    ``directory``: working directory, inside. ``umask`` None: the caller's. 0, 1 and 2 are passed on;
    everything else only through ``descriptors``.
    """

    argv: tuple[str, ...]
    environment: tuple[str, ...] = ()
    command: str | None = None
    search_path: str | None = None
    directory: str | None = None
    umask: int | None = None
    rlimits: tuple[Rlimit, ...] = ()
    descriptors: tuple[Descriptor, ...] = ()
    new_session: bool = False
    terminal: bool = False


class Supervision(Value):
    """What stands beside the payload. ``timeout_ms``: 0, none; ``reporter``: argv of the program that explains a failure."""

    init: bool = False
    die_with_parent: bool = False
    timeout_ms: int = 0
    reporter: tuple[str, ...] = ()
    report_always: bool = False
    best_effort: bool = False
    sync_start: bool = False


class Plan(Value):
    """All of it."""

    process: Process
    namespaces: frozenset[Namespace] = frozenset()
    joins: tuple[Join, ...] = ()
    maps: tuple[Maps, ...] = ()
    user_namespace: UserNamespace = UserNamespace()
    operations: tuple[Operation, ...] = ()
    root_propagation: Propagation = "keep"
    pivot: bool = False
    hostname: str | None = None
    domainname: str | None = None
    loopback: bool = False
    lock_namespaces: bool = False
    credentials: Credentials | None = None
    seccomp: bytes = b""
    supervision: Supervision = Supervision()
    slots: tuple[str, ...] = ()
