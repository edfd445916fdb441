"""The default filter, ready-made where that is possible."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet


def default_filter(arch: str, capabilities: AbstractSet[str], kernel: tuple[int, int]) -> bytes:
    """Return the default profile as an array of ``struct sock_filter`` (seccomp(2)).

    *arch*: the machine as uname(2) names it, ``x86_64`` or ``aarch64``. *capabilities*: the names,
    ``CAP_SYS_CHROOT`` and so on, that the command will have. *kernel*: the running kernel's version
    and patch level, (6, 1).

    The common sets of capabilities (none that matters, a container's usual ones, all) were compiled
    beforehand; another is compiled here. Raises InputError for another architecture.
    """
    from sublet.seccomp import _ready

    if kernel >= _ready.MIN_KERNEL:
        key = tuple(sorted(_ready.CAPABILITIES.intersection(capabilities)))
        ready = _ready.FILTERS.get(arch, {}).get(key)
        if ready is not None:
            return ready
    from sublet.seccomp.compiler import compile_profile
    from sublet.seccomp.default_profile import default_profile

    return compile_profile(default_profile(), arch, capabilities, kernel).filter
