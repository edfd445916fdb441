"""Made-up machines: the facts that planner tests and golden files share."""

from __future__ import annotations

from sublet._value import replace
from sublet.ids import Range
from sublet.plan.facts import Facts, Helper, RootEntry, Subordinate, Sysctls

FULL = (1 << 41) - 1


def delegated(file: str, *ranges: tuple[int, int]) -> Subordinate:
    return Subordinate(
        ranges=tuple(Range.outside(start, count) for start, count in ranges),
        source="file",
        file=file,
        suggested=Range.outside(165536, 65536),
    )


DEBIAN = Facts(
    uid=1001,
    gid=1001,
    groups=(27, 1001),
    user="alice",
    home="/home/alice",
    directory="/home/alice/project",
    hostname="wonder",
    subuids=delegated("/etc/subuid", (100000, 65536)),
    subgids=delegated("/etc/subgid", (100000, 65536)),
    newuidmap=Helper("/usr/bin/newuidmap", None),
    newgidmap=Helper("/usr/bin/newgidmap", None),
    sysctls=Sysctls(max_user_namespaces=15000, legacy_tiocsti=0),
    kernel=(6, 12),
    root_entries=(
        RootEntry("bin", "symlink", "usr/bin"),
        RootEntry("boot", "directory"),
        RootEntry("dev", "directory"),
        RootEntry("etc", "directory"),
        RootEntry("home", "directory"),
        RootEntry("lib", "symlink", "usr/lib"),
        RootEntry("lib64", "symlink", "usr/lib64"),
        RootEntry("lost+found", "directory"),
        RootEntry("opt", "directory"),
        RootEntry("proc", "directory"),
        RootEntry("root", "directory"),
        RootEntry("sbin", "symlink", "usr/sbin"),
        RootEntry("srv", "directory"),
        RootEntry("tmp", "directory"),
        RootEntry("usr", "directory"),
        RootEntry("var", "directory"),
        RootEntry("vmlinuz", "symlink", "boot/vmlinuz"),
    ),
    resolv_conf="/run/systemd/resolve/stub-resolv.conf",
)
"""alice, with sub-IDs, on a Debian."""

NO_SUB_IDS = replace(
    DEBIAN,
    uid=1002,
    gid=1002,
    euid=1002,
    egid=1002,
    user="nosub",
    home="/home/nosub",
    directory="/srv",
    subuids=delegated("/etc/subuid"),
    subgids=delegated("/etc/subgid"),
)
"""nosub, without, on the same machine."""

ROOT = replace(
    DEBIAN,
    uid=0,
    gid=0,
    euid=0,
    egid=0,
    groups=(0,),
    user="root",
    home="/root",
    directory="/root",
    capabilities=FULL,
    permitted=FULL,
    subuids=delegated("/etc/subuid", (200000, 65536)),
    subgids=delegated("/etc/subgid", (200000, 65536)),
)
"""root, on the same machine."""
