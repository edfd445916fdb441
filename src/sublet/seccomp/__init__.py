"""Seccomp profiles: read, compiled to classic BPF, and Sublet's own default. Pure.

* ``default_filter``: the default profile as bytes, ready to install; cheap to import and to call;
* ``sublet.seccomp.profile``: the values of a profile, and the parser of Docker's JSON form;
* ``sublet.seccomp.compiler``: a profile and an architecture make a program;
* ``sublet.seccomp.default_profile``: what the default profile says.

The last three are imported only where a profile of one's own, or an uncommon set of capabilities,
asks for them. Why this is not libseccomp's work: docs/adr/0006-seccomp-writer.md.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

__all__ = ["default_filter"]


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
