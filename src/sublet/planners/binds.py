"""What people mount: the texts of -v, --rw, --tmpfs and --dev-bind, and what they become."""

from __future__ import annotations

from posixpath import isabs, join, normpath

from sublet.errors import InputError
from sublet.mounts.operations import Bind, Operation, Tmpfs
from sublet.planners.request import BindMount, TmpfsMount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from sublet.mounts.operations import Attribute

ACCESS = frozenset({"ro", "rw"})
SUFFIXES = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
BIND_HINT = "Write SRC, SRC:DST or SRC:DST:OPTIONS, with the options ro and rw."


def parse_bind(text: str, directory: str) -> BindMount:
    """Return what ``-v SRC[:DST][:ro|rw]`` asks for; SRC may be relative to *directory*."""
    source, destination, options = _parts(text, "-v", BIND_HINT)
    read_only = False
    for option in options:
        if option not in ACCESS:
            raise InputError(f"-v {text}: the option {option!r} is unknown", hint=BIND_HINT)
        read_only = option == "ro"
    return _bind(source, destination, directory, "-v", text, read_only=read_only)


def parse_writable(text: str, directory: str) -> BindMount:
    """Return what ``--rw PATH`` asks for: the same path, writable. Colons are part of the path."""
    if not text:
        raise InputError("--rw: the path is empty")
    return _bind(text, None, directory, "--rw", text)


def parse_device_bind(text: str, directory: str) -> BindMount:
    """Return what ``--dev-bind SRC[:DST]`` asks for: as -v, with device nodes that work."""
    hint = "Write SRC or SRC:DST."
    source, destination, options = _parts(text, "--dev-bind", hint)
    if options:
        raise InputError(f"--dev-bind {text}: it takes no options", hint=hint)
    return _bind(source, destination, directory, "--dev-bind", text, devices=True)


def parse_tmpfs(text: str) -> TmpfsMount:
    """Return what ``--tmpfs DST[:size=SIZE]`` asks for."""
    target, colon, rest = text.partition(":")
    size = 0
    for option in rest.split(",") if colon else ():
        key, equals, value = option.partition("=")
        if key != "size" or not equals:
            raise InputError(
                f"--tmpfs {text}: the option {option!r} is unknown",
                hint="Write DST or DST:size=SIZE, for instance /scratch:size=64m.",
            )
        size = parse_size(value, f"--tmpfs {text}")
    return TmpfsMount(_target(target, "--tmpfs", text), size)


def parse_size(text: str, place: str) -> int:
    """Return a size in bytes: a number, or one followed by k, m, g or t (powers of 1024)."""
    digits = text.rstrip("kKmMgGtT")
    suffix = text[len(digits) :].lower()
    if not (digits.isascii() and digits.isdigit()) or suffix not in SUFFIXES or len(digits) > 18:
        raise InputError(
            f"{place}: {text!r} is not a size", hint="Write bytes, or a number with k, m, g or t."
        )
    size = int(digits) << SUFFIXES[suffix]
    if not 0 < size < 1 << 63:
        raise InputError(f"{place}: the size {text} is out of range")
    return size


def plan_mounts(
    mounts: Iterable[BindMount | TmpfsMount], outside: frozenset[str]
) -> list[Operation]:
    """Return the operations, in the order given; a place inside of another comes after it."""
    operations: list[Operation] = []
    for mount in sorted(mounts, key=lambda mount: mount.target.rstrip("/").count("/")):
        parents = frozenset({"parents"})
        if isinstance(mount, TmpfsMount):
            operations.append(
                Tmpfs(
                    mount.target,
                    parents,
                    mode=0o1777,
                    size=mount.size,
                    attributes_set=frozenset({"nosuid", "nodev"}),
                )
            )
            continue
        attributes: set[Attribute] = {"nosuid"} if mount.devices else {"nosuid", "nodev"}
        if mount.read_only:
            attributes.add("read_only")
        operations.append(
            Bind(
                mount.target,
                outside | parents | {"recursive"},
                source=mount.source,
                attributes_set=frozenset(attributes),
            )
        )
    return operations


def _parts(text: str, option: str, hint: str) -> tuple[str, str | None, list[str]]:
    """Divide SRC, SRC:DST, SRC:OPTIONS or SRC:DST:OPTIONS."""
    source, *rest = text.split(":", 2)
    if not source:
        raise InputError(f"{option} {text}: the source is empty", hint=hint)
    if len(rest) == 1 and ACCESS.issuperset(rest[0].split(",")):
        return source, None, rest[0].split(",")
    return source, rest[0] if rest else None, rest[1].split(",") if len(rest) > 1 else []


def _bind(
    source: str,
    destination: str | None,
    directory: str,
    option: str,
    text: str,
    *,
    read_only: bool = False,
    devices: bool = False,
) -> BindMount:
    # What ".." leads to after a symbolic link is the kernel's to say, so a source keeps it.
    source = join(directory, source)
    target = _target(normpath(source) if destination is None else destination, option, text)
    return BindMount(target, source, read_only=read_only, devices=devices)


def _target(path: str, option: str, text: str) -> str:
    if not isabs(path):
        raise InputError(
            f"{option} {text}: the destination {path!r} is not absolute",
            hint="Destinations are paths inside the sandbox and begin with /.",
        )
    target = "/" + normpath(path).lstrip("/")
    if target == "/":
        raise InputError(
            f"{option} {text}: the destination is the root itself",
            hint="--rootfs PATH makes a directory the root, --view host shows all of the machine.",
        )
    return target
