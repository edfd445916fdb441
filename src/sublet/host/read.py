"""Read the facts of this machine.

This is on the way of every ``sublet run``: each part is a handful of system calls, nothing is asked
of NSS while the files answer, and only what is needed is read.
"""

from __future__ import annotations

import os
import stat

from sublet.errors import HostError, MapError, NotationError
from sublet.host.machine import Host
from sublet.ids import IdMap, OutsideId, Range
from sublet.plan.facts import (
    INITIAL_USER_NAMESPACE,
    Facts,
    Helper,
    RootEntry,
    Subordinate,
    Sysctls,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Literal

    from sublet.plan.facts import Cgroup

    Part = Literal["subids", "helpers", "sysctls", "root", "cgroups"]

EVERYTHING: frozenset[Part] = frozenset({"subids", "helpers", "sysctls", "root", "cgroups"})

STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
FIRST_SUGGESTED = 100000
SUGGESTED_COUNT = 65536
NS_GET_USERNS = 0xB701
"""ioctl_ns(2): the user namespace that owns a namespace."""


def read_facts(host: Host | None = None, need: Iterable[Part] = EVERYTHING) -> Facts:
    """Return the facts of *host* (this machine), as far as they are needed.

    Who the caller is, the kernel, the directory and the terminals are always read. Parts of *need*:
    ``subids`` (subuids, subgids), ``helpers`` (newuidmap, newgidmap), ``sysctls``, ``root``
    (root_entries, resolv_conf), ``cgroups``. HostError without /proc.
    """
    host = Host() if host is None else host
    parts = frozenset(need)
    status = _status(host)
    uids, gids = status["Uid"].split(), status["Gid"].split()
    uid, gid = int(uids[0]), int(gids[0])
    user, home = _user(host, uid)
    no_new_privs = status.get("NoNewPrivs") == "1"
    name = os.uname()
    rest: dict[str, Any] = {}
    initial = _initial(host)
    if not initial:  # whose map is the identity
        rest["uid_map"] = _own_map(host, "/proc/self/uid_map")
        rest["gid_map"] = _own_map(host, "/proc/self/gid_map")
        rest["owns_mounts"] = _owns_mounts(host)
        rest["setgroups_denied"] = (host.read("/proc/self/setgroups") or "").strip() == "deny"
    if "subids" in parts:
        elsewhere = _subids_elsewhere(host)
        rest["subuids"] = _subordinate(host, "/etc/subuid", user, uid, elsewhere=elsewhere)
        rest["subgids"] = _subordinate(host, "/etc/subgid", user, uid, elsewhere=elsewhere)
    if "helpers" in parts:
        rest["newuidmap"] = _helper(host, "newuidmap", no_new_privs=no_new_privs)
        rest["newgidmap"] = _helper(host, "newgidmap", no_new_privs=no_new_privs)
    if "sysctls" in parts:
        rest["sysctls"] = read_sysctls(host)
    if "root" in parts:
        rest["root_entries"] = _root_entries(host)
        rest["resolv_conf"] = _resolv_conf(host)
    if "cgroups" in parts:
        rest["cgroups"] = _cgroups(host)
    return Facts(
        uid=uid,
        gid=gid,
        euid=int(uids[1]),
        egid=int(gids[1]),
        groups=tuple(int(group) for group in status.get("Groups", "").split()),
        user=user,
        home=home,
        directory=_directory(),
        hostname=name.nodename,
        capabilities=int(status.get("CapEff", "0"), 16),
        permitted=int(status.get("CapPrm", "0"), 16),
        bounding=int(status.get("CapBnd", "0"), 16),
        no_new_privs=no_new_privs,
        initial_user_namespace=initial,
        kernel=parse_release(name.release),
        architecture=name.machine,
        terminals=(os.isatty(0), os.isatty(1), os.isatty(2)),
        **rest,
    )


def parse_release(release: str) -> tuple[int, int]:
    """Return major and minor version of a kernel *release*: (6, 1) for ``6.1.0-28-amd64``."""
    numbers = []
    for part in release.split(".", 2)[:2]:
        digits = part[: next((i for i, letter in enumerate(part) if not letter.isdigit()), None)]
        numbers.append(int(digits or "0"))
    return numbers[0], numbers[1] if len(numbers) > 1 else 0


def read_sysctls(host: Host) -> Sysctls:
    """Return the sysctls that matter."""
    last = host.number("/proc/sys/kernel/cap_last_cap")
    return Sysctls(
        max_user_namespaces=host.number("/proc/sys/user/max_user_namespaces"),
        unprivileged_userns_clone=host.number("/proc/sys/kernel/unprivileged_userns_clone"),
        apparmor_restrict_unprivileged_userns=host.number(
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"
        ),
        legacy_tiocsti=host.number("/proc/sys/dev/tty/legacy_tiocsti"),
        cap_last_cap=40 if last is None else last,
    )


# ---------------------------------------------------------------- who we are


def _status(host: Host) -> dict[str, str]:
    text = host.read("/proc/self/status", 65536)
    fields = {}
    for line in (text or "").split("\n"):
        key, _, value = line.partition(":\t")
        fields[key] = value.strip()
    if "Uid" not in fields or "Gid" not in fields:
        raise HostError(
            "/proc/self/status cannot be read",
            path=host.path("/proc/self/status"),
            hint="Sublet needs a proc file system at /proc: mount -t proc proc /proc.",
        )
    return fields


def _owns_mounts(host: Host) -> bool:
    """Tell whether our mount namespace belongs to our user namespace (ioctl_ns(2))."""
    import fcntl

    if not host.real:
        return True
    try:
        mounts = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        owner = fcntl.ioctl(mounts, NS_GET_USERNS)
    except OSError:  # EPERM: a namespace above ours
        return False
    finally:
        os.close(mounts)
    try:
        return host.readlink("/proc/self/ns/user") == f"user:[{os.fstat(owner).st_ino}]"
    finally:
        os.close(owner)


def _initial(host: Host) -> bool:
    return host.readlink("/proc/self/ns/user") == f"user:[{INITIAL_USER_NAMESPACE}]"


def _own_map(host: Host, path: str) -> IdMap:
    from sublet.ids.notation import uid_map

    try:
        return uid_map.parse(host.read(path, 65536) or "")
    except (NotationError, MapError):
        # IDs without a name in this namespace: nothing can be said of them.
        return IdMap()


def _directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def _user(host: Host, uid: int) -> tuple[str | None, str]:
    """Return the caller's name and home directory.

    $USER is believed only where the machine's passwd file agrees: it decides whose subordinate IDs
    are looked up. NSS is asked only where that file does not know the user at all.
    """
    home = host.environ.get("HOME", "")
    passwd = "\n" + (host.read("/etc/passwd") or "")
    name = host.environ.get("USER", "")
    fields: list[str] = []
    if name and ":" not in name and "\n" not in name:
        at = passwd.find(f"\n{name}:")
        if at >= 0:
            fields = passwd[at + 1 : passwd.find("\n", at + 1)].split(":")
    if len(fields) < 6 or fields[2] != str(uid):
        fields = _passwd_fields(passwd, str(uid))
    if not fields and host.real:
        fields = _nss_fields(uid)
    if not home.startswith("/"):
        home = (fields[5] if fields else "") or "/"
    return (fields[0] if fields else None), home


def _passwd_fields(passwd: str, uid: str) -> list[str]:
    wanted = f":{uid}:"
    for line in passwd.split("\n"):
        if wanted in line:
            fields = line.split(":")
            if len(fields) >= 6 and fields[2] == uid and fields[0]:
                return fields
    return []


def _nss_fields(uid: int) -> list[str]:
    import pwd

    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return []
    return [entry.pw_name, "", str(uid), "", "", entry.pw_dir, ""]


# ---------------------------------------------------------------- what is delegated


def _subids_elsewhere(host: Host) -> bool:
    """Tell whether nsswitch.conf sends subid to anything but the files (libsubid(3))."""
    for line in (host.read("/etc/nsswitch.conf") or "").split("\n"):
        key, colon, value = line.partition("#")[0].partition(":")
        if colon and key.strip() == "subid":
            return value.split() not in ([], ["files"])
    return False


def _subordinate(
    host: Host, file: str, user: str | None, uid: int, *, elsewhere: bool
) -> Subordinate:
    if elsewhere:
        ranges = _getsubids(host, user or str(uid), groups=file.endswith("gid"))
        if ranges is not None:
            return Subordinate(ranges=ranges, source="getsubids", file=file)
    text = host.read(file)
    if text is None:
        suggested = Range.outside(FIRST_SUGGESTED, SUGGESTED_COUNT)
        return Subordinate(file=file, suggested=suggested)
    from sublet.ids.notation import subid

    owners = (str(uid),) if user is None else (user, str(uid))
    ranges_found = []
    highest = FIRST_SUGGESTED
    for line in text.split("\n"):
        owner, _, rest = line.partition(":")
        if owner in owners:
            try:
                span = subid.parse_line(line)[1]
            except (NotationError, MapError):
                continue
            ranges_found.append(span)
            highest = max(highest, span.end)
        elif rest:
            highest = max(highest, _end(rest))
    fits = highest + SUGGESTED_COUNT < 1 << 32
    return Subordinate(
        ranges=tuple(ranges_found),
        source="file",
        file=file,
        suggested=Range.outside(highest, SUGGESTED_COUNT) if fits else None,
    )


def _end(rest: str) -> int:
    """Return where START:COUNT ends; 0 where it says nothing. Other people's lines only."""
    start, _, count = rest.partition(":")
    count = count.strip()
    if start.isascii() and start.isdigit() and count.isascii() and count.isdigit():
        return int(start[:10]) + int(count[:10])
    return 0


def _getsubids(host: Host, owner: str, *, groups: bool) -> tuple[Range[OutsideId], ...] | None:
    """Ask getsubids(1), which speaks for whatever nsswitch.conf names; None without the program.

    Its lines read ``INDEX: OWNER START COUNT``.
    """
    program = _search(host, "getsubids")
    if program is None:
        return None
    import subprocess

    from sublet.ids.notation import subid

    argv = [host.path(program), *(["-g"] if groups else []), owner]
    try:
        done = subprocess.run(  # a directory service may be slow, but not for ever
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    ranges = []
    for line in done.stdout.decode(errors="replace").split("\n"):
        fields = line.split()
        if len(fields) == 4:
            try:
                ranges.append(subid.parse_line(f"{fields[1]}:{fields[2]}:{fields[3]}")[1])
            except (NotationError, MapError):
                continue
    return tuple(ranges)


# ---------------------------------------------------------------- the helpers


def _search(host: Host, name: str) -> str | None:
    path = host.environ.get("PATH") or STANDARD_PATH
    for directory in (*path.split(":"), "/usr/bin", "/usr/sbin"):
        if directory.startswith("/") and host.access(f"{directory}/{name}", os.X_OK):
            return f"{directory}/{name}"
    return None


def _helper(host: Host, name: str, *, no_new_privs: bool) -> Helper:
    path = _search(host, name)
    if path is None:
        return Helper()
    return Helper(path, _problem(host.path(path), no_new_privs=no_new_privs))


def _problem(
    path: str, *, no_new_privs: bool
) -> Literal["unprivileged", "nosuid", "no_new_privs"] | None:
    if no_new_privs:
        return "no_new_privs"
    try:
        about = os.stat(path)
        if not about.st_mode & stat.S_ISUID and not os.getxattr(path, "security.capability"):
            return "unprivileged"
        if os.statvfs(path).f_flag & os.ST_NOSUID:
            return "nosuid"
    except OSError:
        return "unprivileged"
    return None


# ---------------------------------------------------------------- the machine's tree


def _root_entries(host: Host) -> tuple[RootEntry, ...]:
    entries = []
    try:
        with os.scandir(host.path("/")) as found:
            for entry in found:
                link = host.readlink(f"/{entry.name}") if entry.is_symlink() else None
                if link is not None:
                    entries.append(RootEntry(entry.name, "symlink", link))
                elif entry.is_dir(follow_symlinks=False):
                    entries.append(RootEntry(entry.name, "directory"))
                else:
                    entries.append(RootEntry(entry.name, "other"))
    except OSError as error:
        raise HostError("/ cannot be listed", path="/", errno=error.errno) from error
    return tuple(sorted(entries, key=lambda entry: entry.name))


def _resolv_conf(host: Host) -> str | None:
    path = "/etc/resolv.conf"
    if host.readlink(path) is not None:
        from sublet.host.sources import realpath

        path = realpath(path, host)
    return path if os.path.isfile(host.path(path)) else None


def _cgroups(host: Host) -> tuple[Cgroup, ...]:
    from sublet.host.cgroups import read_cgroups

    return read_cgroups(host)
