"""The program that the executor becomes at the end, where nobody else is left to speak.

It turns the last message into a sentence on standard error, or a JSON report, and exits with the
status of the whole command (docs/protocol.md, The reporter). While the sandbox runs, nothing of it
is in memory; launch.executor.reporter_command() says how it will be started.
"""

from __future__ import annotations

import errno
import os
import stat

from sublet.errors import InputError, SubletError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from sublet.launch.report import Report


def main(argv: Sequence[str]) -> int:
    """Report what *argv* (``[--report WHERE] --record FD --plan FD``) describes; return the status.

    Nothing is raised: what goes wrong here is said on standard error, with status 125.
    """
    try:
        return _report(argv)
    except SubletError as error:
        say(error)
        return error.exit_code
    except OSError as error:
        say(SubletError(f"the report cannot be made: {error.strerror}"))
        return SubletError.exit_code


def say(error: SubletError) -> None:
    """Write the error's sentence, and its hint in a line below, to standard error."""
    lines = [f"sublet: {error.what}", *([f"  {error.hint}"] if error.hint else [])]
    text = "".join(f"{line}\n" for line in lines)
    try:
        os.write(2, text.encode(errors="surrogateescape"))
    except OSError:
        return  # there is nobody to tell


def write(report: dict[str, Any], where: str) -> None:
    """Write the JSON *report* to *where*: ``FD``, ``FD/NAME`` or an absolute path.

    FD/NAME is a file in a directory that was opened before the run: the command may have put
    another one, or a link, at its path meanwhile. A file appears whole or not at all: it is
    written beside its place and then renamed. OSError where it cannot be written.
    """
    import json

    data = (json.dumps(report, indent=2, ensure_ascii=True) + "\n").encode()
    if where.startswith("/"):
        parent, name = os.path.split(where)
        directory = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    else:
        number, _, name = where.partition("/")
        directory = int(number)
    if not name:
        _write_all(directory, data)
        return
    try:
        plain = stat.S_ISREG(os.stat(name, dir_fd=directory).st_mode)
    except FileNotFoundError:
        plain = True
    if not plain:  # a terminal, a pipe: nothing to rename over
        # Not waiting: the command may have put a FIFO there that nobody will ever read.
        flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        fd = os.open(name, flags, dir_fd=directory)
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):  # a link, and exchanged meanwhile
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), name)
            os.set_blocking(fd, True)
            _write_all(fd, data)
        finally:
            os.close(fd)
        return
    beside = f".{name}.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    fd = os.open(beside, flags, 0o644, dir_fd=directory)
    try:
        try:
            _write_all(fd, data)
        finally:
            os.close(fd)
        os.replace(beside, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        os.unlink(beside, dir_fd=directory)
        raise


def _place(where: str) -> str:
    """Name the place that write() takes, for people."""
    number, slash, name = where.partition("/")
    return f"descriptor {number}" if not slash else name if number else where


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _report(argv: Sequence[str]) -> int:
    from sublet.launch.report import report_of
    from sublet.plan.codec import decode
    from sublet.plan.message import SIZE, Message

    options = _options(argv)
    record = os.pread(_descriptor(options, "--record"), SIZE + 1, 0)
    plan = decode(_read_all(_descriptor(options, "--plan")))
    report = report_of(Message.decode(record), plan)
    error = _error(report)
    if error is not None:
        say(error)
    status = report.exit_code if error is None else error.exit_code
    if report.ending in {"timeout", "lost"}:
        status = report.exit_code
    where = options.get("--report")
    if where is not None:
        whole = {**report.to_dict(), "exit_code": status}
        if error is not None:
            whole["error"] = {"what": error.what, "hint": error.hint, "path": error.path}
        try:
            write(whole, where)
        except OSError as failed:
            say(
                SubletError(
                    f"the report cannot be written to {_place(where)}: {failed.strerror}",
                    hint="Name a file in a directory that you may write to, or a descriptor.",
                )
            )
            return SubletError.exit_code
    return status


def _error(report: Report) -> SubletError | None:
    """Return what is to be said of the ending; None for one that speaks for itself."""
    if report.ending == "setup":
        from sublet.launch.failure import explain

        return explain(report)
    if report.ending == "timeout":
        seconds = report.plan.supervision.timeout_ms / 1000
        return SubletError(f"the time given ({seconds:g} s) was over, and everything was killed")
    if report.ending == "lost":
        return SubletError(
            f"the sandbox's first process was killed from outside (signal {report.signal})",
            hint="By hand, or for lack of memory: the kernel's log may know (dmesg).",
        )
    return None


def _options(argv: Sequence[str]) -> dict[str, str]:
    known = {"--report", "--record", "--plan"}
    if len(argv) % 2 or not known.issuperset(argv[::2]):
        raise InputError(
            "the reporter takes [--report WHERE] --record FD --plan FD",
            hint="It is started by sublet-exec, and seldom by hand.",
        )
    return dict(zip(argv[::2], argv[1::2], strict=True))


def _descriptor(options: dict[str, str], name: str) -> int:
    text = options.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InputError(f"the reporter's {name} is no descriptor: {text!r}")
    return int(text)


def _read_all(fd: int) -> bytes:
    from sublet.plan._wire import MAX_SIZE

    data = b""
    while len(data) <= MAX_SIZE and (more := os.pread(fd, 1 << 20, len(data))):
        data += more
    return data
