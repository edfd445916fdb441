"""Throw-away users: alice with sub-IDs, nosub without, and root, without touching /etc.

Run by root, every command of such a user starts in a private mount namespace in which substitutes
stand in for /etc/passwd, /etc/group, /etc/subuid and /etc/subgid (see as-user). Run by an ordinary
user, that user is alice if they have sub-IDs of their own, and nosub if they have none.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from support import leaks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

AS_USER = Path(__file__).with_name("as-user")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Account(NamedTuple):
    """A line of passwd, and the sub-IDs that go with it."""

    name: str
    uid: int
    gid: int
    sub_ids: range


ROOT = Account("root", 0, 0, range(200_000, 265_536))
ALICE = Account("alice", 1001, 1001, range(100_000, 165_536))
NOSUB = Account("nosub", 1002, 1002, range(0))
ACCOUNTS = (ROOT, ALICE, NOSUB)


class User:
    """Somebody who can run commands, with a home of their own and a clean environment."""

    def __init__(self, account: Account, home: Path, mark: str, command_path: str) -> None:
        """Prepare *account* with *home*, which must exist; *mark* tags all of its processes."""
        self.name = account.name
        self.uid = account.uid
        self.gid = account.gid
        self.sub_ids = account.sub_ids
        self.home = home
        self.env: dict[str, str] = {
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "LOGNAME": account.name,
            "PATH": f"{command_path}:{PATH}",
            "USER": account.name,
            leaks.VARIABLE: mark,
        }
        self._prefix: list[str] = []

    def __repr__(self) -> str:
        return f"<{self.name}: UID {self.uid}, home {self.home}>"

    def stand_in(self, etc: Path) -> None:
        """Have every command started as this user see the files of *etc* in /etc. Needs root."""
        who = [str(AS_USER), str(etc), str(self.uid), str(self.gid)]
        self._prefix = ["unshare", "--mount", "--propagation", "private", "--", "sh", *who]

    def _arguments(
        self, argv: Sequence[str | os.PathLike[str]], env: Mapping[str, str] | None
    ) -> tuple[list[str], dict[str, str]]:
        return [*self._prefix, *(os.fspath(word) for word in argv)], {**self.env, **(env or {})}

    def run(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, in the user's home; *env* adds to the clean environment.

        Options go to subprocess.run(). By default: text captured, no standard input, exit status
        for the caller to look at, at most 60 seconds.
        """
        command, environment = self._arguments(argv, env)
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        if "stdout" not in options and "stderr" not in options:
            options.setdefault("capture_output", True)
        check = options.pop("check", False)
        options = {"cwd": self.home, "text": True, "timeout": 60, **options}
        done: subprocess.CompletedProcess[str] = subprocess.run(
            command, env=environment, check=check, **options
        )
        return done

    def popen(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.Popen[str]:
        """Start a command; its PID is that of *argv* itself, no helper stays between.

        Options go to subprocess.Popen(). By default: pipes for output and errors, as text.
        """
        command, environment = self._arguments(argv, env)
        pipe = subprocess.PIPE
        defaults = {"cwd": self.home, "text": True, "stdin": subprocess.DEVNULL}
        options = {**defaults, "stdout": pipe, "stderr": pipe, **options}
        started: subprocess.Popen[str] = subprocess.Popen(command, env=environment, **options)
        return started

    def own(self, path: Path) -> Path:
        """Give *path* to this user, and return it."""
        if os.geteuid() == 0:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)
        return path

    def mkdir(self, name: str) -> Path:
        """Make a directory of the user's below their home."""
        made = self.home / name
        made.mkdir()
        return self.own(made)

    def write(self, name: str, content: str, mode: int = 0o644) -> Path:
        """Write a file of the user's below their home."""
        written = self.home / name
        written.write_text(content)
        written.chmod(mode)
        return self.own(written)


def lend(account: Account, folder: Path, mark: str, command_path: str) -> Iterator[User]:
    """Yield a user whose home is made in *folder*; afterwards end their processes, remove it."""
    folder.mkdir(mode=0o755)
    home = folder / "home"
    home.mkdir(mode=0o755)
    user = User(account, home, mark, command_path)
    user.own(home)
    if os.geteuid() == 0:
        etc = folder / "etc"
        write_etc(etc, account, home)
        user.stand_in(etc)
    try:
        yield user
    finally:
        for pid in leaks.marked(mark):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        remove(folder)


def write_etc(etc: Path, account: Account, home: Path) -> None:
    """Write substitutes for passwd, group, subuid and subgid; *account* lives in *home*."""
    etc.mkdir(mode=0o755)
    homes = {account.name: str(home)}
    people = [
        f"{who.name}:x:{who.uid}:{who.gid}::{homes.get(who.name, '/nonexistent')}:/bin/sh"
        for who in ACCOUNTS
    ]
    groups = [f"{who.name}:x:{who.gid}:" for who in ACCOUNTS]
    delegated = [
        f"{who.name}:{who.sub_ids.start}:{len(who.sub_ids)}" for who in ACCOUNTS if who.sub_ids
    ]
    files = {
        "passwd": [*people, *others("/etc/passwd")],
        "group": [*groups, *others("/etc/group")],
        "subuid": delegated,
        "subgid": delegated,
    }
    for name, lines in files.items():
        (etc / name).write_text("\n".join(lines) + "\n")
        (etc / name).chmod(0o644)


def others(path: str) -> Iterable[str]:
    """Return the lines of passwd or group that name nobody of ours, by name or number."""
    names = {who.name for who in ACCOUNTS}
    numbers = {str(who.uid) for who in ACCOUNTS}
    for line in Path(path).read_text().splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[0] not in names and fields[2] not in numbers:
            yield line


def remove(folder: Path) -> None:
    """Remove a tree, files of sub-IDs included."""
    if os.geteuid() != 0:
        # Inside the full map these files are the user's to remove; what is left goes below.
        enter = ["unshare", "--user", "--map-root-user", "--map-auto", "--"]
        subprocess.run([*enter, "rm", "-rf", "--", str(folder)], capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)
    else:
        shutil.rmtree(folder)


def myself() -> Account:
    """Return the ordinary user who runs the tests, with the sub-IDs that both files give them."""
    entry = pwd.getpwuid(os.geteuid())
    ranges = [delegated(path, entry) for path in ("/etc/subuid", "/etc/subgid")]
    sub_ids = ranges[0] if all(ranges) else range(0)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, sub_ids)


def delegated(path: str, entry: pwd.struct_passwd) -> range:
    """Return the first range that a subuid or subgid file delegates to a user; empty for none."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return range(0)
    for line in lines:
        owner, _, numbers = line.partition(":")
        if owner in (entry.pw_name, str(entry.pw_uid)):
            start, _, count = numbers.partition(":")
            return range(int(start), int(start) + int(count))
    return range(0)
