"""What the kernel can do, found out by doing it.

A process of its own tries, in user and mount namespaces of its own, and prints what worked; nothing
outlives it, and the caller's own process, which may have threads, is never forked. This costs an
interpreter's start, so it is for reports on a machine, not for an ordinary run.
"""

from __future__ import annotations

import errno
import os
import sys

from sublet.errors import HostError
from sublet.plan.facts import KernelFeatures

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable, Iterator

BOOTSTRAP = (
    "import sys; sys.path.insert(0, sys.argv[1]); from sublet.host.probe import main; main()"
)
PATIENCE_SECONDS = 30

# asm/unistd.h: system calls newer than 5.0 have the same number everywhere.
SYS_OPEN_TREE = 428
SYS_MOUNT_SETATTR = 442
SYS_LANDLOCK_CREATE_RULESET = 444
SYS_STATMOUNT = 457
SYS_OPEN_TREE_ATTR = 467

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_REC_PRIVATE = 0x4000 | 0x40000
OPEN_TREE_CLONE = 1
AT_EMPTY_PATH = 0x1000
MOUNT_ATTR_IDMAP = 0x00100000
LANDLOCK_VERSION = 1
PR_SET_PDEATHSIG = 1


def probe() -> KernelFeatures:
    """Return what this kernel lets the caller do. HostError where the probe itself cannot run."""
    import subprocess

    place = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", BOOTSTRAP, place],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or b""
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        raise HostError(f"the kernel's features cannot be probed: {last or error}") from error
    return parse(done.stdout.decode())


def parse(text: str) -> KernelFeatures:
    """Return the features that the lines ``NAME VALUE`` of *text* tell."""
    values: dict[str, str] = {}
    for line in text.split("\n"):
        name, _, value = line.partition(" ")
        values[name] = value
    return KernelFeatures(
        user_namespaces=values.get("user_namespaces") == "1",
        overlay=values.get("overlay") == "1",
        overlay_userxattr=values.get("overlay_userxattr") == "1",
        idmapped=frozenset(values.get("idmapped", "").split()),
        mount_setattr=values.get("mount_setattr") == "1",
        statmount=values.get("statmount") == "1",
        open_tree_attr=values.get("open_tree_attr") == "1",
        landlock=int(values.get("landlock", "0")),
        untested=frozenset(values.get("untested", "").split()),
    )


# ---------------------------------------------------------------- in the process of its own


def main() -> None:
    """Try everything and print it."""
    libc = _libc()
    untested = []
    for name, number in (
        ("mount_setattr", SYS_MOUNT_SETATTR),
        ("statmount", SYS_STATMOUNT),
        ("open_tree_attr", SYS_OPEN_TREE_ATTR),
    ):
        _say(name, int(_exists(libc, number)))
    abi = _syscall(libc, SYS_LANDLOCK_CREATE_RULESET, 0, 0, LANDLOCK_VERSION)
    _say("landlock", max(abi, 0))
    idmapped = set(_idmapped_here(libc))
    able = _unshare(libc)
    _say("user_namespaces", int(able))
    if able and _private_tmpfs(libc):
        _say("overlay", int(_overlay(libc, "one", "")))
        _say("overlay_userxattr", int(_overlay(libc, "two", ",userxattr")))
        if _idmap(libc, "/tmp"):
            idmapped.add("tmpfs")
    else:
        untested += ["overlay", "overlay_userxattr", "idmapped"]
    _say("idmapped", " ".join(sorted(idmapped)))
    _say("untested", " ".join(untested))


def _say(name: str, value: object) -> None:
    print(name, value, flush=True)


def _libc() -> ctypes.CDLL:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def _syscall(libc: ctypes.CDLL, number: int, *arguments: int | bytes | None) -> int:
    """Return what the system call returns, or the errno as a negative number."""
    import ctypes

    call: Callable[..., int] = libc.syscall
    given = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result = call(ctypes.c_long(number), *given)
    return -ctypes.get_errno() if result < 0 else result


def _exists(libc: ctypes.CDLL, number: int) -> bool:
    """Tell whether the kernel knows the call: nonsense is then another error than ENOSYS."""
    # EPERM for nonsense is a seccomp filter's answer, which comes to the same.
    return _syscall(libc, number, -1, 0, -1, 0, 0) not in {-errno.ENOSYS, -errno.EPERM}


def _unshare(libc: ctypes.CDLL) -> bool:
    """Enter a new user namespace, as its root, and a new mount namespace."""
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS):
        return False
    try:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"0 {uid} 1")
        _write("/proc/self/gid_map", f"0 {gid} 1")
    except OSError:
        return False
    return True


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _private_tmpfs(libc: ctypes.CDLL) -> bool:
    return not libc.mount(None, b"/", None, MS_REC_PRIVATE, None) and not libc.mount(
        b"probe", b"/tmp", b"tmpfs", 0, None
    )


def _overlay(libc: ctypes.CDLL, name: str, option: str) -> bool:
    places = [f"/tmp/{name}-{part}" for part in ("lower", "upper", "work", "merged")]
    for place in places:
        os.mkdir(place)
    lower, upper, work, merged = places
    options = f"lowerdir={lower},upperdir={upper},workdir={work}{option}"
    mounted: int = libc.mount(b"probe", merged.encode(), b"overlay", 0, options.encode())
    if mounted:
        return False
    # What cannot be written to is of no use.
    try:
        os.mkdir(f"{merged}/made")
    except OSError:
        return False
    return True


def _idmapped_here(libc: ctypes.CDLL) -> Iterator[str]:
    """Yield the types of mounted file systems that the caller, as privileged as it is, can map."""
    tried = set()
    with open("/proc/self/mountinfo") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            point, kind = before.split(" ")[4], after.split(" ")[0]
            if kind in tried or "\\" in point:
                continue
            tried.add(kind)
            if _idmap(libc, point):
                yield kind


def _idmap(libc: ctypes.CDLL, place: str) -> bool:
    """Make an ID-mapped mount of *place*, which nobody sees, and tell if it worked."""
    import struct

    tree = _syscall(libc, SYS_OPEN_TREE, -100, place.encode(), OPEN_TREE_CLONE)
    if tree < 0:
        return False
    namespace = _namespace(libc)
    attributes = struct.pack("<QQQQ", MOUNT_ATTR_IDMAP, 0, 0, max(namespace, 0))
    try:
        return namespace >= 0 and not _syscall(
            libc, SYS_MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH, attributes, len(attributes)
        )
    finally:
        os.close(tree)
        if namespace >= 0:
            os.close(namespace)


def _namespace(libc: ctypes.CDLL) -> int:
    """Return the descriptor of a user namespace with a map of one ID; -1 without one."""
    import signal

    reading, writing = os.pipe()
    child = os.fork()  # this process is its own, and has one thread
    if not child:
        failed = libc.unshare(CLONE_NEWUSER)
        # After unshare, which resets it: this process is not to outlive the one that probes.
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.write(writing, b"n" if failed else b"y")
        while True:
            signal.pause()
    os.close(writing)
    try:
        if os.read(reading, 1) != b"y":
            return -1
        _write(f"/proc/{child}/setgroups", "deny")
        # Where the caller is 0 itself, the map must be one of what it has: its own ID.
        _write(f"/proc/{child}/uid_map", f"0 {os.geteuid()} 1")
        _write(f"/proc/{child}/gid_map", f"0 {os.getegid()} 1")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
