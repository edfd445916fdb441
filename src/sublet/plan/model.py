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
    """A namespace to enter instead of making one: its kind, and the slot of its descriptor."""

    namespace: Namespace
    slot: str


class UserNamespace(Value):
    """How the IDs of the new user namespace are set up.

    ``writer``: who writes the maps (the first of the plan's ``maps``); a process that writes its
    own ("self") may map one ID, and only with setgroups denied (user_namespaces(7)).
    ``newuidmap``, ``newgidmap``: paths of the helpers, outside, absolute. ``setup_uid``,
    ``setup_gid``: inside IDs that set-up acts as; None: the caller's as they come.
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
    """A descriptor for the payload: the slot's, at this number (0 to 1023)."""

    slot: str
    number: int


class Process(Value):
    """What is executed.

    ``command``: the file, None: argv[0]; without a slash it is searched in ``search_path``, which
    must then be given. ``environment``: NAME=VALUE, and nothing of the caller's. ``directory``:
    working directory, inside, absolute. ``umask`` None: the caller's. Descriptors 0, 1 and 2 are
    passed on, everything else only through ``descriptors``. ``terminal``: implies a new session.
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
    """What stands beside the payload.

    ``timeout_ms``: 0, none. ``reporter``: argv of the program that explains a failure, its path
    absolute. The others as in ``enums.setting`` of spec/wire.toml.
    """

    init: bool = False
    die_with_parent: bool = False
    timeout_ms: int = 0
    reporter: tuple[str, ...] = ()
    report_always: bool = False
    sync_start: bool = False


class Plan(Value):
    """All of it; :func:`sublet.plan.validate.validate` says what makes one valid.

    ``namespaces`` are made, ``joins`` entered. The first of ``maps`` is the sandbox's own, the
    others are those of mounts. ``pivot``: the mount with target "/" becomes the root.
    ``credentials`` None: the payload runs as set-up left it. ``seccomp``: an array of struct
    sock_filter. ``slots``: names of the descriptors that are given at launch.
    """

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
