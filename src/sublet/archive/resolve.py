"""Open directories below a root, with symbolic links that mean what they mean inside of it.

openat2(2) with RESOLVE_IN_ROOT: an absolute link starts at the root, and ``..`` ends there. Python
has no function for it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

NUMBER = 437  # of openat2, on every architecture
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_IN_ROOT = 0x10
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
HOW = struct.pack("=QQQ", DIRECTORY, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
ATTEMPTS = 100

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = [
    ctypes.c_long,
    ctypes.c_long,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_size_t,
]


def open_directory(root: int, path: bytes) -> int:
    """Return a descriptor of the directory *path* below *root*; empty: of the root itself.

    Raises OSError: ENOENT, ENOTDIR, ELOOP and so on, as open(2).
    """
    number = errno.EAGAIN
    for _ in range(ATTEMPTS):
        descriptor: int = _syscall(NUMBER, root, path or b".", HOW, len(HOW))
        if descriptor >= 0:
            return descriptor
        number = ctypes.get_errno()
        # the kernel could not prove that a ".." stayed below, since something was moved meanwhile
        if number != errno.EAGAIN:
            break
    raise OSError(number, os.strerror(number), os.fsdecode(path))
