"""Resource limits by name.

The numbers are those of asm-generic/resource.h, which x86, ARM, RISC-V, POWER and s390 share; MIPS,
Alpha and SPARC number some of them otherwise, and there is no executor for them.
"""

from __future__ import annotations

NAMES = (
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
)
"""The limits without ``RLIMIT_``; the index is the number (getrlimit(2))."""

UNLIMITED = 18446744073709551615
"""RLIM_INFINITY."""
