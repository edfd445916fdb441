"""Facts: what this machine allows and who the caller is, as frozen values.

:mod:`sublet.host` reads them, once; planners take them as they are, so every planner can be tested
with facts made up by hand. IDs are those of the caller's own user namespace, which is the *outside*
of any namespace that is made. What a caller does not need is not read: such a field keeps its
default (``sublet.host.read_facts`` says which part fills which field).
"""

from __future__ import annotations

from sublet._value import Value
from sublet.ids import IdMap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from sublet.ids import OutsideId, Range

INITIAL_USER_NAMESPACE = 0xEFFFFFFD
"""The inode of the initial user namespace's file (include/linux/proc_ns.h)."""

CAP_SETGID = 6
CAP_SETUID = 7
CAP_NET_ADMIN = 12
CAP_SYS_ADMIN = 21
CAP_SYS_RESOURCE = 24
CAP_MKNOD = 27
CAP_SETFCAP = 31


class Subordinate(Value):
    """The subordinate user (or group) IDs of the caller.

    ``ranges``: in the order of the file. ``source``: what was asked, the file, the program
    getsubids(1) (where nsswitch.conf sends subid elsewhere), or neither. ``file``: where a line
    would be added. ``suggested``: IDs that no line of the file delegates, for such a line.
    """

    ranges: tuple[Range[OutsideId], ...] = ()
    source: Literal["file", "getsubids", "none"] = "none"
    file: str = ""
    suggested: Range[OutsideId] | None = None


class Helper(Value):
    """newuidmap or newgidmap: its ``path``, None where it is missing, and why it cannot work.

    ``problem``: ``unprivileged``, neither a setuid bit nor a file capability; ``nosuid``, on a
    mount that ignores both; ``no_new_privs``, the caller itself can gain nothing any more.
    """

    path: str | None = None
    problem: Literal["missing", "unprivileged", "nosuid", "no_new_privs"] | None = "missing"

    @property
    def usable(self) -> bool:
        """Whether nothing speaks against its working."""
        return self.path is not None and self.problem is None


class Sysctls(Value):
    """The sysctls that decide what an ordinary user may do; None where the kernel has none.

    ``max_user_namespaces``: user.max_user_namespaces. ``unprivileged_userns_clone``: Debian's
    kernel.unprivileged_userns_clone. ``apparmor_restrict_unprivileged_userns``: Ubuntu's.
    ``legacy_tiocsti``: dev.tty.legacy_tiocsti. ``cap_last_cap``: the kernel's highest capability.
    """

    max_user_namespaces: int | None = None
    unprivileged_userns_clone: int | None = None
    apparmor_restrict_unprivileged_userns: int | None = None
    legacy_tiocsti: int | None = None
    cap_last_cap: int = 40


class RootEntry(Value):
    """What stands directly below ``/``: ``name``, ``kind``, and where a symbolic link leads."""

    name: str
    kind: Literal["directory", "symlink", "other"]
    link: str | None = None


class Cgroup(Value):
    """The caller's place in one cgroup hierarchy.

    ``version``: 1 or 2. ``controllers``: those of a v1 hierarchy; in v2 those that the group may
    hand on (cgroup.controllers). ``name``: the group as /proc/self/cgroup names it. ``path``: its
    directory, None where it is not to be seen. ``writable``: groups can be made below it.
    """

    version: Literal[1, 2]
    controllers: tuple[str, ...]
    name: str
    path: str | None = None
    writable: bool = False


class Facts(Value):
    """All that planning for an ordinary run needs to know of the machine and of the caller.

    ``uid``, ``gid``, ``euid``, ``egid``, ``groups``: of this process. ``user``: its name, None
    where it has none. ``capabilities`` (effective), ``permitted``, ``bounding``: masks, in the
    caller's own user namespace. ``owns_mounts``: the mount namespace belongs to that
    user namespace, so that CAP_SYS_ADMIN counts in it. ``setgroups_denied``: it forbids
    setgroups(2). ``uid_map``, ``gid_map``: those of that namespace; outside is its parent's.
    ``kernel``: major and minor version. ``architecture``: as uname(2) says it. ``directory``: the
    working directory, None where it is gone. ``terminals``: whether 0, 1 and 2 are terminals.
    ``resolv_conf``: the file that /etc/resolv.conf really is, None without one.
    """

    uid: int
    gid: int
    euid: int | None = None
    egid: int | None = None
    groups: tuple[int, ...] = ()
    user: str | None = None
    home: str = "/"
    directory: str | None = "/"
    hostname: str = "localhost"
    capabilities: int = 0
    permitted: int = 0
    bounding: int = 0x1FFFFFFFFFF
    no_new_privs: bool = False
    initial_user_namespace: bool = True
    owns_mounts: bool = True
    setgroups_denied: bool = False
    uid_map: IdMap = IdMap.identity()
    gid_map: IdMap = IdMap.identity()
    subuids: Subordinate = Subordinate(file="/etc/subuid")
    subgids: Subordinate = Subordinate(file="/etc/subgid")
    newuidmap: Helper = Helper()
    newgidmap: Helper = Helper()
    sysctls: Sysctls = Sysctls()
    kernel: tuple[int, int] = (5, 12)
    architecture: str = "x86_64"
    terminals: tuple[bool, bool, bool] = (False, False, False)
    root_entries: tuple[RootEntry, ...] = ()
    resolv_conf: str | None = None
    cgroups: tuple[Cgroup, ...] = ()

    def __post_init__(self) -> None:
        """Fill the effective IDs in where they are the real ones."""
        if self.euid is None:
            object.__setattr__(self, "euid", self.uid)
        if self.egid is None:
            object.__setattr__(self, "egid", self.gid)

    @property
    def owner(self) -> str:
        """What stands for the caller in /etc/subuid: the name, or else the number."""
        return self.user or str(self.uid)

    @property
    def can_mount(self) -> bool:
        """Whether the caller may make mounts where they are, without a namespace of their own."""
        return self.owns_mounts and self.capable(CAP_SYS_ADMIN)

    def capable(self, *capabilities: int) -> bool:
        """Tell whether the caller has all these capabilities (CAP_*) in their namespace."""
        return all(self.capabilities >> capability & 1 for capability in capabilities)


class KernelFeatures(Value):
    """What the kernel can do, found out by doing it; slow, and so never read for an ordinary run.

    ``user_namespaces``: the caller can make one. ``overlay``: overlayfs can be mounted in it
    (5.11), ``overlay_userxattr`` with user.overlay.* attributes. ``idmapped``: file systems
    (names as in /proc/filesystems) on which an ID-mapped mount was made. ``mount_setattr`` (5.12),
    ``statmount`` (6.8), ``open_tree_attr`` (6.15): the system calls. ``landlock``: ABI version, 0
    without it.
    ``untested``: names of fields that could not be tried here, and so say nothing.
    """

    user_namespaces: bool = False
    overlay: bool = False
    overlay_userxattr: bool = False
    idmapped: frozenset[str] = frozenset()
    mount_setattr: bool = False
    statmount: bool = False
    open_tree_attr: bool = False
    landlock: int = 0
    untested: frozenset[str] = frozenset()
