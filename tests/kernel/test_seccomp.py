"""The default filter, really installed: what the kernel then refuses, and what goes on working."""

from __future__ import annotations

import errno
import json
import os
import platform
import signal
import subprocess
import sys
from typing import Any

import pytest

from sublet.seccomp import default_filter
from sublet.seccomp._syscalls import NUMBERS
from sublet.seccomp.compiler import compile_profile
from sublet.seccomp.profile import ALLOW, ERRNO, KILL_PROCESS, Profile, Rule
from support.probes import beyond

ARCH = platform.machine()
pytestmark = pytest.mark.skipif(ARCH not in NUMBERS, reason=f"beyond this machine: no {ARCH} table")

# What a child does first: it reads {filter, calls}, and installs the filter, if there is one, for
# good. It may be refused nothing that the rest of it needs, so that is imported before.
INSTALL = """
import ctypes, json, mmap, os, signal, struct, subprocess, sys, threading
asked = json.loads(os.environ.pop("ASKED"))
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def prctl(*args):
    if libc.prctl(*(ctypes.c_ulong(arg) for arg in args)):
        raise OSError(ctypes.get_errno(), "prctl")
if asked["filter"]:
    program = ctypes.create_string_buffer(bytes.fromhex(asked["filter"]))
    length = len(asked["filter"]) // 16
    fprog = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", length, ctypes.addressof(program)))
    prctl(38, 1, 0, 0, 0)                          # PR_SET_NO_NEW_PRIVS
    prctl(22, 2, ctypes.addressof(fprog), 0, 0)    # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
def call(nr, *args):
    ctypes.set_errno(0)
    done = libc.syscall(ctypes.c_long(nr), *(ctypes.c_ulong(arg) for arg in args))
    return ctypes.get_errno() if done == -1 else 0
"""
CALLS = INSTALL + "print(json.dumps([call(*one) for one in asked['calls']]))"
# mov eax, 20 (getpid, as i386 numbers it); int 0x80; ret
INT80 = (
    INSTALL
    + """
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(bytes.fromhex("b814000000cd80c3"))
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
print(json.dumps(ctypes.CFUNCTYPE(ctypes.c_int)(address)()))
"""
)


def child(script: str, program: bytes, *calls: tuple[int, ...]) -> subprocess.CompletedProcess[str]:
    """Run *script* in a Python of its own, with *program* for a filter."""
    asked = json.dumps({"filter": program.hex(), "calls": calls})
    return subprocess.run(
        [sys.executable, "-I", "-c", script],
        env={"ASKED": asked, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def answers(program: bytes, *calls: tuple[int, ...]) -> Any:
    done = child(CALLS, program, *calls)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def default() -> bytes:
    major, minor = platform.release().split(".")[:2]
    return default_filter(ARCH, frozenset(), (int(major), int(minor)))


# name, arguments, the errno with the filter. The arguments are such that without the filter the
# kernel answers otherwise, or succeeds in nothing that matters.
BAD = 2**64 - 1
REFUSED = [
    ("unshare", (0,), errno.EPERM),
    ("clone", (0x10000000 | 0xFFFFFFFF << 32, 0), errno.EPERM),
    ("clone3", (0, 0), errno.ENOSYS),
    ("mount", (0, 0, 0, 0, 0), errno.EPERM),
    ("open_tree", (BAD, 0, 0), errno.EPERM),
    ("fsopen", (0, 0), errno.EPERM),
    ("setns", (BAD, 0), errno.EPERM),
    ("keyctl", (BAD,), errno.EPERM),
    ("bpf", (BAD, 0, 0), errno.EPERM),
    ("io_uring_setup", (0, 0), errno.EPERM),
    ("userfaultfd", (BAD,), errno.EPERM),
    ("personality", (0x7FFF0001,), errno.EPERM),
    ("socket", (40, 99, 0), errno.EPERM),
    ("ioctl", (BAD, 0x5412, 0), errno.EPERM),
    ("ioctl", (BAD, 0x5412 | 1 << 32, 0), errno.EPERM),
    ("ioctl", (BAD, 0x541C | 1 << 63, 0), errno.EPERM),
    ("file_getattr", (BAD, 0, 0, 0, 0), errno.ENOSYS),
]


@pytest.mark.parametrize(("name", "args", "expected"), REFUSED)
def test_refused(default: bytes, name: str, args: tuple[int, ...], expected: int) -> None:
    nr = NUMBERS[ARCH][name]
    assert answers(default, (nr, *args)) == [expected]
    if name == "clone":
        return  # without the filter there would be a second process
    without = answers(b"", (nr, *args))
    if without == [errno.ENOSYS]:
        beyond(f"this kernel has no {name}")
    if without == [errno.EPERM]:
        beyond(f"this user may not {name} anyway")
    assert without != [expected]


def test_allowed(default: bytes) -> None:
    calls = [
        (NUMBERS[ARCH]["getpid"],),
        (NUMBERS[ARCH]["socket"], 1, 1, 0),
        (NUMBERS[ARCH]["socket"], 2, 2, 0),
        (NUMBERS[ARCH]["personality"], 0xFFFFFFFF),
    ]
    assert answers(default, *calls) == [0, 0, 0, 0]
    # the kernel's own answer, to a descriptor that is not open
    assert answers(default, (NUMBERS[ARCH]["ioctl"], BAD, 0x5401, 0)) == [errno.EBADF]


@pytest.fixture(scope="module")
def fatal() -> bytes:
    """A filter that allows all calls of x86_64, and kills what comes another way."""
    if ARCH != "x86_64":
        beyond("it has no other ways in")
    profile = Profile(KILL_PROCESS, (Rule(tuple(NUMBERS["x86_64"]), ALLOW),))
    return compile_profile(profile, "x86_64", frozenset(), (6, 1)).filter


def test_x32_is_refused(default: bytes, fatal: bytes) -> None:
    getpid = NUMBERS["x86_64"]["getpid"]
    assert answers(fatal, (getpid,)) == [0]
    assert child(CALLS, fatal, (getpid | 0x40000000,)).returncode == -signal.SIGSYS
    assert answers(default, (getpid | 0x40000000,)) == [errno.ENOSYS]


def test_i386_is_refused(default: bytes, fatal: bytes) -> None:
    without = child(INT80, b"")
    if without.returncode:
        beyond("this kernel takes no 32-bit calls")
    assert json.loads(without.stdout) > 0
    assert child(INT80, fatal).returncode == -signal.SIGSYS
    assert json.loads(child(INT80, default).stdout) == -errno.ENOSYS


@pytest.mark.parametrize(
    "argv",
    [
        ["sh", "-c", "for i in 1 2 3; do echo $i | cat; done; (sleep 0; exit 0) & wait"],
        ["ls", "-lR", "/proc/self/task"],
        ["sh", "-c", "ls -l / | sort | head -n 3; d=$(mktemp -d) && cp /etc/passwd $d && rm -r $d"],
        [
            sys.executable,
            "-c",
            "import ssl, sqlite3, socket, asyncio; asyncio.run(asyncio.sleep(0))",
        ],
        [sys.executable, "-c", "import subprocess; subprocess.run(['true'], check=True)"],
    ],
)
def test_ordinary_programs_work(default: bytes, argv: list[str]) -> None:
    done = child(INSTALL + f"os.execvp({argv[0]!r}, {argv!r})", default)
    assert (done.returncode, done.stderr) == (0, "")


def test_threads_work(default: bytes) -> None:
    script = (
        INSTALL
        + """
done = []
threads = [threading.Thread(target=done.append, args=(k,)) for k in range(20)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps(sorted(done)))
"""
    )
    done = child(script, default)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == list(range(20))


def test_an_unconditional_errno_is_what_the_program_sees() -> None:
    profile = Profile(ALLOW, (Rule(("getpid",), ERRNO | errno.ENOTTY),))
    program = compile_profile(profile, ARCH, frozenset(), (6, 1)).filter
    assert answers(program, (NUMBERS[ARCH]["getpid"],)) == [errno.ENOTTY]
