"""Example plans: what people run most, and one that has everything in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sublet.ids import IdMap
from sublet.mounts.operations import (
    Bind,
    BindFile,
    Cgroup2,
    Chmod,
    Console,
    Device,
    Devpts,
    Directory,
    File,
    Mask,
    Mqueue,
    Operation,
    Overlay,
    Proc,
    Remount,
    Symlink,
    Sysctl,
    Sysfs,
    Tmpfs,
)
from sublet.plan import capabilities, rlimits
from sublet.plan.model import (
    Credentials,
    Descriptor,
    Join,
    Maps,
    Plan,
    Process,
    Rlimit,
    Supervision,
    UserNamespace,
)

if TYPE_CHECKING:
    from sublet.mounts.operations import Attribute

SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
ONE_ID = Maps(IdMap.of((0, 1000, 1)), IdMap.of((0, 1000, 1)))
FULL = Maps(
    IdMap.of((0, 1000, 1), (1, 100000, 65536)),
    IdMap.of((0, 1000, 1), (1, 100000, 65536)),
)
# ld [0]; ret ALLOW: the shortest filter that lets everything pass
FILTER = bytes.fromhex("2000000000000000 060000000000ff7f")
HARDENED: frozenset[Attribute] = frozenset(("nosuid", "nodev", "noexec"))
DEVICES = {"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9, "tty": 0}


def bare() -> Plan:
    """Nothing but a command."""
    return Plan(Process(("/bin/true",)))


def own_id() -> Plan:
    """A sandbox for somebody without subordinate IDs: one ID, the machine's tree read-only."""
    return Plan(
        process=Process(
            ("sh", "-c", 'id; echo "it\'s"'),
            environment=("PATH=" + SYSTEM_PATH, "HOME=/root", "LANG=C.UTF-8"),
            search_path=SYSTEM_PATH,
            directory="/root",
            new_session=True,
        ),
        namespaces=frozenset(("user", "mount", "pid", "net", "ipc", "uts")),
        maps=(ONE_ID,),
        user_namespace=UserNamespace(writer="self", setgroups="deny"),
        operations=(
            Bind(
                "/",
                source="/",
                flags=frozenset(("recursive",)),
                attributes_set=frozenset(("read_only", "nosuid")),
                propagation="private",
            ),
            Proc("/proc", attributes_set=HARDENED),
            Tmpfs("/tmp", mode=0o1777, size=64 << 20, attributes_set=HARDENED - {"noexec"}),
            Bind("/root", source="/home/jo/project"),
            Mask("/proc/kcore", flags=frozenset(("optional",))),
        ),
        root_propagation="slave",
        pivot=True,
        hostname="sandbox",
        loopback=True,
        lock_namespaces=True,
        credentials=Credentials(uid=0, gid=0),
        supervision=Supervision(
            init=True,
            die_with_parent=True,
            timeout_ms=1500,
            reporter=("/usr/bin/python3", "-m", "sublet", "report"),
        ),
    )


def container() -> Plan:
    """A container with root's usual capabilities, on an overlay, with a terminal and /dev."""
    null = tuple(
        Device(
            f"/dev/{name}",
            source=f"/dev/{name}",
            device_major=5 if name == "tty" else 1,
            device_minor=minor,
            flags=frozenset(("parents",)),
        )
        for name, minor in DEVICES.items()
    )
    operations: tuple[Operation, ...] = (
        Overlay("/", lower=("/srv/app", "/srv/base"), flags=frozenset(("scratch", "userxattr"))),
        Proc("/proc", attributes_set=HARDENED, flags=frozenset(("parents",))),
        Sysfs("/sys", attributes_set=HARDENED | {"read_only"}, flags=frozenset(("parents",))),
        Cgroup2("/sys/fs/cgroup", attributes_set=HARDENED, options=("nsdelegate",)),
        Tmpfs("/dev", mode=0o755, size=65536 * 1024, attributes_set=frozenset(("nosuid",))),
        *null,
        Symlink("/dev/fd", text="/proc/self/fd"),
        Devpts("/dev/pts", mode=0o620, gid=5, options=("ptmxmode=0666",)),
        Mqueue("/dev/mqueue", attributes_set=HARDENED),
        Console("/dev/console"),
        BindFile("/etc/hosts", content=b"127.0.0.1 localhost\n", mode=0o644),
        File("/etc/hostname", content="büro\n".encode(), mode=0o644),
        Mask("/proc/kcore"),
        Remount(
            "/proc/sys", attributes_set=frozenset(("read_only",)), flags=frozenset(("optional",))
        ),
        Sysctl("net/ipv4/ping_group_range", text="0 65535"),
    )
    usual = capabilities.CONTAINER
    return Plan(
        process=Process(
            ("bash", "-l"),
            environment=("PATH=" + SYSTEM_PATH, "TERM=xterm"),
            search_path=SYSTEM_PATH,
            directory="/",
            umask=0o022,
            rlimits=(Rlimit(7, 1024, 524288), Rlimit(4, 0, rlimits.UNLIMITED)),
            terminal=True,
        ),
        namespaces=frozenset(("user", "mount", "pid", "net", "ipc", "uts", "cgroup")),
        maps=(FULL,),
        user_namespace=UserNamespace(
            writer="helpers",
            setup_uid=0,
            setup_gid=0,
            newuidmap="/usr/bin/newuidmap",
            newgidmap="/usr/bin/newgidmap",
        ),
        operations=operations,
        root_propagation="private",
        pivot=True,
        hostname="büro",
        loopback=True,
        credentials=Credentials(
            uid=0, gid=0, groups=(0, 10), effective=usual, permitted=usual, bounding=usual
        ),
        seccomp=FILTER,
        supervision=Supervision(init=True),
    )


def everything() -> Plan:
    """Every part, and every kind of operation with as many of its fields as go together."""
    flag = frozenset
    operations: tuple[Operation, ...] = (
        Bind(
            "/",
            slot="root",
            map=1,
            flags=flag(("outside", "recursive")),
            attributes_set=flag(("nosymfollow", "noatime")),
            attributes_clear=flag(("noexec",)),
            propagation="unbindable",
        ),
        Bind("/data", source="/srv/data", flags=flag(("own_map", "optional", "existing"))),
        Overlay(
            "/usr",
            lower=("/srv/a", "/srv/b:c"),
            source="/srv/upper",
            work="/srv/work",
            flags=flag(("outside", "volatile", "parents")),
            attributes_set=flag(("read_only",)),
            options=("index=off", "metacopy=on"),
        ),
        Tmpfs("/run", mode=0o700, uid=1, gid=2, size=4097, options=("huge=never", "noswap")),
        Proc("/proc", options=("hidepid=invisible",)),
        Devpts("/dev/pts", mode=0o600, gid=5, attributes_set=flag(("noexec",))),
        Device(
            "/dev/fuse",
            source="/dev/fuse",
            device_major=10,
            device_minor=229,
            mode=0o666,
            uid=0,
            gid=0,
            flags=flag(("mknod", "optional")),
        ),
        Directory("/var/lib/x", mode=0o2750, uid=3, gid=4, flags=flag(("parents", "if_missing"))),
        Directory("/var/lib/y", flags=flag(("exclusive",))),
        File(
            "/etc/raw", content=b"\xff\0\xfe", mode=0o400, uid=5, gid=6, flags=flag(("exclusive",))
        ),
        File("/etc/given", slot="secret"),
        BindFile("/etc/mounted", slot="secret", attributes_set=flag(("read_only",))),
        Symlink("/etc/link", text="../tmp/\udcff", flags=flag(("if_missing",))),
        Remount(
            "/data",
            attributes_set=flag(("strictatime",)),
            attributes_clear=flag(("read_only",)),
            propagation="shared",
            flags=flag(("recursive",)),
        ),
        Chmod("/", mode=0o755),
        Console("/dev/console", flags=flag(("parents",))),
    )
    return Plan(
        process=Process(
            ("login", "", "-f"),
            environment=("EMPTY=", "A=b=c"),
            command="/sbin/login",
            directory="/var",
            umask=0o077,
            rlimits=(Rlimit(0, 1, 2),),
            descriptors=(Descriptor("secret", 3), Descriptor("root", 9)),
            new_session=True,
        ),
        namespaces=frozenset(("user", "mount", "pid", "time")),
        joins=(Join("net", "netns"), Join("uts", "utsns")),
        maps=(FULL, Maps(IdMap.of((0, 5, 10)), IdMap.of((3, 4, 1), (20, 30, 2)))),
        user_namespace=UserNamespace(writer="direct", setup_uid=1, setup_gid=2),
        operations=operations,
        root_propagation="shared",
        pivot=True,
        hostname="joined",
        domainname="example.org",
        lock_namespaces=True,
        credentials=Credentials(
            uid=33,
            gid=34,
            groups=(),
            effective=1 << 12,
            permitted=capabilities.ALL,
            inheritable=1 << 12,
            ambient=1 << 12,
            bounding=capabilities.ALL & ~(1 << 21) & ~(1 << 16),
            securebits=0x2F,
            no_new_privs=False,
        ),
        seccomp=FILTER * 3,
        supervision=Supervision(
            init=True,
            timeout_ms=3_600_000,
            reporter=("/usr/bin/sublet", "report", "--json"),
            report_always=True,
            sync_start=True,
        ),
        slots=("root", "secret", "netns", "utsns"),
    )


PLANS = {plan.__name__: plan for plan in (bare, own_id, container, everything)}
