"""The request: what a person asked `sublet run` for, before the machine is looked at.

Paths are absolute; those of the machine as they were given, those inside normalised. What had to be
looked up to understand the request (a user's name in the root file system, where a tree lies) has
been looked up: a planner reads nothing.
"""

from __future__ import annotations

from sublet._value import Value
from sublet.ids import IdMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from sublet.plan.model import Rlimit
    from sublet.seccomp.profile import Profile

    Layout = Literal["keep", "root", "full", "keep_id", "nomap", "host", "explicit"]


class Ids(Value):
    """The IDs that are wanted inside.

    ``layout``: keep, root, full and nomap are the layouts of :mod:`sublet.ids.layouts`; keep_id
    has the caller as ``uid`` and ``gid`` inside; host makes no user namespace; explicit is spelt
    out in ``users`` and ``groups``, of which one may be empty.
    """

    layout: Layout = "keep"
    uid: int | None = None
    gid: int | None = None
    users: IdMap = IdMap()
    groups: IdMap = IdMap()


class Account(Value):
    """Who the command shall be inside, as the passwd file there has it.

    IDs are inside IDs; ``groups``: the supplementary ones. ``name`` None: a bare number.
    """

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    name: str | None = None
    home: str = "/"


class RootFs(Value):
    """A root file system: the directory ``path``, and what becomes of writes.

    ``writes``: ``vanish`` with the sandbox; ``stay`` in the directory itself; ``kept`` in the
    layer ``upper`` (with its ``work`` directory); ``refused``.
    """

    path: str
    writes: Literal["vanish", "stay", "kept", "refused"] = "vanish"
    upper: str | None = None
    work: str | None = None


class Mount(Value):
    """Something that the person wants to see at ``target``."""

    target: str


class BindMount(Mount):
    """The machine's ``source``. ``devices``: device nodes in it work."""

    source: str
    read_only: bool = False
    devices: bool = False


class TmpfsMount(Mount):
    """An empty tmpfs of ``size`` bytes; 0, the kernel's default: half of the memory."""

    size: int = 0


class Request(Value):
    """All of it.

    ``root``: a view of the machine, or a root file system. ``directory`` None: the caller's (for a
    view), or /. ``environment``: the caller's; ``changes``: names with their new values, None for
    the caller's; ``clear``: nothing but the changes. ``new_privs`` None: as the layout has it.
    ``seccomp``: the default filter, none, or a profile of one's own. ``timeout_ms`` 0: none.
    ``reporter``: the program that explains a failure. ``slots``: names of descriptors that are
    only held while the sandbox lives.
    """

    command: tuple[str, ...]
    ids: Ids = Ids()
    user: Account | None = None
    root: Literal["system", "host"] | RootFs = "system"
    mounts: tuple[BindMount | TmpfsMount, ...] = ()
    directory: str | None = None
    environment: tuple[tuple[str, str], ...] = ()
    changes: tuple[tuple[str, str | None], ...] = ()
    clear: bool = False
    hostname: str | None = None
    net: Literal["none", "host"] = "none"
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    new_privs: bool | None = None
    limits: tuple[Rlimit, ...] = ()
    seccomp: Literal["default", "none"] | Profile = "default"
    timeout_ms: int = 0
    terminal: bool = False
    die_with_parent: bool = False
    reporter: tuple[str, ...] = ()
    report_always: bool = False
    slots: tuple[str, ...] = ()
