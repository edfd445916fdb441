"""Launching for real: the library's way and the command line's, as root and as ordinary users.

Each test runs a short program as one of the tests' users. What all of them start with is HEAD.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from support import installed
from support.leaks import marked, wait_until_empty

if TYPE_CHECKING:
    from pathlib import Path

    from support.leaks import Leaks
    from support.users import User

pytestmark = pytest.mark.requires("userns")

HEAD = """
import json, os, signal, sys, threading, time
sys.path.insert(0, sys.argv[1])
from sublet._value import replace
from sublet.errors import SubletError
from sublet.host import read_facts
from sublet.ids import IdMap, OutsideId
from sublet.ids.layouts import Delegation, full, root
from sublet.launch.become import become
from sublet.launch.executor import reporter_command as command
from sublet.launch.spawn import spawn
from sublet.mounts.operations import Bind, Proc, Tmpfs
from sublet.plan.model import (
    Credentials, Descriptor, Maps, Plan, Process, Supervision, UserNamespace
)
from sublet.plan.writers import choose_writer

facts = read_facts()
ALL = frozenset({"recursive"})
OWN = Maps(root(OutsideId(facts.uid)), root(OutsideId(facts.gid)))

def plan(*argv, maps=OWN, user=None, operations=(), **supervision):
    supervision.setdefault("init", True)
    return Plan(
        Process(argv, tuple(f"{k}={v}" for k, v in os.environ.items()), search_path="/bin"),
        namespaces=frozenset({"user", "mount", "pid"}),
        maps=(maps,),
        user_namespace=user or choose_writer(facts, maps),
        operations=operations,
        root_propagation="private",
        supervision=Supervision(**supervision),
    )

def full_maps():
    def one(caller, subordinate):
        return full(Delegation(
            OutsideId(caller), subordinate.ranges, facts.owner, subordinate.file
        ))
    return Maps(one(facts.uid, facts.subuids), one(facts.gid, facts.subgids))

def report(one):
    return {**one.to_dict(), "exit_code": one.exit_code}

def refusal(one):
    try:
        with spawn(one) as launched:
            launched.wait()
    except SubletError as error:
        return {"class": type(error).__name__, "what": error.what, "hint": error.hint,
                "path": error.path, "exit_code": error.exit_code, "phase": error.phase}

def tell(value):
    print(json.dumps(value), flush=True)
"""


@pytest.fixture(autouse=True)
def library(sublet_exec: Path) -> str:
    """The installed package, executor included, where every user can read it."""
    return str(sublet_exec.parent.parent)


def program(library: str, body: str, *arguments: str) -> list[str]:
    return [installed.interpreter(), "-I", "-S", "-c", HEAD + body, library, *arguments]


def told(user: User, library: str, body: str, *arguments: str) -> Any:
    done = user.run(program(library, body, *arguments))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_status_comes_back(everyone: User, library: str, leaving_nothing: Leaks) -> None:
    del leaving_nothing
    body = """
with spawn(plan("sh", "-c", "exit 7")) as launched:
    launched.wait_ready()
    first = launched.first_pid
    tell([report(launched.wait()), first != launched.pid])
"""
    report, apart = told(everyone, library, body)
    assert (report["ending"], report["status"], report["exit_code"]) == ("exit", 7, 7)
    assert report["enforced"]["uid_map"] == [[0, everyone.uid, 1]]
    assert report["used"]["wall_ns"] > 0
    assert report["used"]["max_rss_kib"] > 0
    assert apart


def test_signals_come_back(anyone: User, library: str) -> None:
    body = 'with spawn(plan("sh", "-c", "kill -SEGV $$")) as l: tell(report(l.wait()))'
    report = told(anyone, library, body)
    assert (report["ending"], report["signal"], report["exit_code"]) == ("signal", 11, 139)


@pytest.mark.requires("newuidmap")
def test_all_borrowed_ids_are_mapped(anyone: User, library: str) -> None:
    body = """
one = plan("cat", "/proc/self/uid_map", "/proc/self/gid_map", maps=full_maps())
with spawn(one) as launched:
    assert launched.wait().status == 0
tell(one.user_namespace.writer)
"""
    done = anyone.run(program(library, body))
    assert done.returncode == 0, done.stderr
    *lines, writer = done.stdout.splitlines()
    maps = [[int(number) for number in line.split()] for line in lines]
    assert maps == [[0, anyone.uid, 1], [1, anyone.sub_ids.start, 65536]] * 2
    assert json.loads(writer) == ("direct" if anyone.uid == 0 else "helpers")


def test_nothing_is_executed_before_go(anyone: User, library: str) -> None:
    body = """
made = os.path.join(os.environ["HOME"], "made")
with spawn(plan("touch", made, sync_start=True)) as launched:
    launched.wait_ready()
    time.sleep(0.1)
    before = os.path.exists(made)
    launched.go()
    tell([before, launched.wait().status, os.path.exists(made)])
"""
    assert told(anyone, library, body) == [False, 0, True]


def test_killing_ends_the_whole_tree(anyone: User, library: str, mark: str) -> None:
    body = """
launched = spawn(plan("sh", "-c", "setsid sleep 60 & setsid sleep 60 & echo; sleep 60"))
launched.wait_ready()
time.sleep(0.3)
launched.kill()
one = launched.wait(10)
launched.close()
tell([one.ending, one.signal])
"""
    assert told(anyone, library, body) in (["lost", 9], ["signal", 9])
    assert wait_until_empty(lambda: [str(pid) for pid in marked(mark)], 5) == []


def test_leaving_the_block_in_an_error_ends_the_tree(anyone: User, library: str, mark: str) -> None:
    body = """
try:
    with spawn(plan("sleep", "60")):
        raise KeyError
except KeyError:
    tell("out")
"""
    assert told(anyone, library, body) == "out"
    assert wait_until_empty(lambda: [str(pid) for pid in marked(mark)], 5) == []


@pytest.mark.parametrize("moment", ["0", "0.001", "0.003", "0.01", "0.2"])
def test_an_executor_that_is_killed_takes_all_along(
    anyone: User, library: str, mark: str, moment: str
) -> None:
    body = """
launched = spawn(plan("sleep", "60"))
time.sleep(float(sys.argv[2]))
signal.pidfd_send_signal(launched.pidfd, signal.SIGKILL)
try:
    launched.wait(10)
except SubletError as error:
    tell([type(error).__name__, error.what])
launched.close()
"""
    name, what = told(anyone, library, body, moment)
    assert name == "ExecutorDiedError"
    assert "signal 9" in what
    assert wait_until_empty(lambda: [str(pid) for pid in marked(mark)], 5) == []


def test_the_time_given_is_kept(anyone: User, library: str, mark: str) -> None:
    body = 'with spawn(plan("sleep", "60", timeout_ms=300)) as l: tell(report(l.wait(20)))'
    begun = time.monotonic()
    report = told(anyone, library, body)
    assert time.monotonic() - begun < 20
    assert (report["ending"], report["exit_code"]) == ("timeout", 124)
    assert report["used"]["wall_ns"] >= 300_000_000
    assert wait_until_empty(lambda: [str(pid) for pid in marked(mark)], 5) == []


def test_descriptors_and_only_those_named(anyone: User, library: str) -> None:
    body = """
extra = os.open("/", os.O_PATH)
os.set_inheritable(extra, True)
one = plan("sh", "-c", "ls /proc/self/fd; readlink /proc/self/fd/9")
one = replace(one, slots=("etc",), process=replace(
    one.process, descriptors=(Descriptor("etc", 9),)
))
with spawn(one, {"etc": os.open("/etc", os.O_PATH)}) as launched:
    tell(launched.wait().status)
"""
    done = anyone.run(program(library, body))
    assert done.returncode == 0, done.stderr
    # 3 is with what ls reads the directory
    assert done.stdout.split() == ["0", "1", "2", "3", "9", "/etc", "0"]


def test_slots_that_nothing_uses_are_held_and_no_others(anyone: User, library: str) -> None:
    """A lock is held for as long as its descriptor is open somewhere: in the supervisor."""
    body = """
import fcntl
path = os.path.join(os.environ["HOME"], "lock")
lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
fcntl.flock(lock, fcntl.LOCK_EX)
reading, writing = os.pipe()
one = plan("sh", "-c", "exec 9>&-; cat >&2")
one = replace(one, slots=("lock", "pipe"), process=replace(
    one.process, descriptors=(Descriptor("pipe", 9),)
))
keep, hold = os.pipe()
with spawn(one, {"lock": lock, "pipe": writing}, stdin=keep) as launched:
    launched.wait_ready()
    os.close(lock)
    os.close(writing)
    closed = os.read(reading, 1) == b""
    other = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = False
    except BlockingIOError:
        held = True
    os.close(hold)
    launched.wait()
fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
tell([closed, held])
"""
    assert told(anyone, library, body) == [True, True]


def test_a_time_too_short_for_set_up(anyone: User, library: str, mark: str) -> None:
    body = """
endings = set()
for _ in range(10):
    with spawn(plan("sleep", "60", timeout_ms=1, sync_start=True)) as launched:
        try:
            launched.wait_ready()
            launched.go()
        except SubletError as error:
            pass
        endings.add(launched.wait(10).ending)
tell(list(endings))
"""
    assert told(anyone, library, body) == ["timeout"]
    assert wait_until_empty(lambda: [str(pid) for pid in marked(mark)], 5) == []


def test_many_at_once_from_many_threads(anyone: User, library: str) -> None:
    body = """
statuses = []
def work(number):
    with spawn(plan("sh", "-c", f"exit {number}")) as launched:
        statuses.append([number, launched.wait(30).status])
threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
tell(sorted(statuses))
"""
    assert told(anyone, library, body) == [[number, number] for number in range(12)]


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.requires("newuidmap")
def test_what_is_not_delegated_is_said_with_the_line_to_add(nosub: User, library: str) -> None:
    body = """
wanted = Maps(IdMap.of((0, facts.uid, 1), (1, 300000, 100)), OWN.gid)
user = UserNamespace("helpers", newuidmap="/usr/bin/newuidmap", newgidmap="/usr/bin/newgidmap")
tell(refusal(plan("true", maps=wanted, user=user)))
"""
    refused = told(nosub, library, body)
    assert refused["class"] == "NotDelegatedError"
    assert "1-100 inside to 300000-300099 outside" in refused["what"]
    assert f'"{nosub.name}:300000:100"' in refused["hint"]


def test_a_missing_source(anyone: User, library: str) -> None:
    body = 'tell(refusal(plan("true", operations=(Bind("/mnt", source="/no/such"),))))'
    refused = told(anyone, library, body)
    assert refused["class"] == "SetupError"
    assert refused["what"].startswith("cannot bind /no/such to /mnt: No such file")
    assert refused["path"] == "/no"
    assert refused["exit_code"] == 125


@pytest.mark.requires("root")
def test_a_source_that_somebody_denies(alice: User, library: str) -> None:
    closed = alice.home / "closed"
    (closed / "below").mkdir(parents=True)
    closed.chmod(0o700)
    os.chown(closed, 0, 0)
    body = 'tell(refusal(plan("true", operations=(Bind("/mnt", source=sys.argv[2]),))))'
    refused = told(alice, library, body, str(closed / "below"))
    assert refused["path"] == str(closed)
    assert "mode 0700" in refused["hint"]
    closed.chmod(0o711)
    assert told(alice, library, body, str(closed / "below")) is None


def test_a_destination_under_a_read_only_place(anyone: User, library: str) -> None:
    body = """
place = os.path.join(os.environ["HOME"], "place")
os.mkdir(place)
operations = (
    Bind(place, source=place, attributes_set=frozenset({"read_only"})),
    Bind(place + "/x", ALL, source="/etc"),
)
tell(refusal(plan("true", operations=operations)))
"""
    refused = told(anyone, library, body)
    assert "read-only place" in refused["what"]
    assert f"{anyone.home}/place is read-only" in refused["hint"]


def test_a_file_where_a_directory_is_needed(anyone: User, library: str) -> None:
    anyone.write("file", "")
    body = """
place = os.path.join(os.environ["HOME"], "file")
tell([refusal(plan("true", operations=(Bind(place, ALL, source="/etc"),))),
      refusal(plan("true", operations=(Bind("/mnt", source=place),)))])
"""
    first, second = told(anyone, library, body)
    assert "a file where a directory is needed" in first["what"]
    assert "a directory where a file is needed" in second["what"]


@pytest.mark.parametrize(
    ("name", "content", "mode", "kind", "status", "hint"),
    [
        ("none", None, 0, "CommandNotFoundError", 127, "spelling"),
        ("plain", "", 0o644, "CannotExecuteError", 126, "chmod +x"),
        ("wrong", "\x7fELF no", 0o755, "CannotExecuteError", 126, "no program for this machine"),
        ("lost", "#!/no/interpreter\n", 0o755, "CommandNotFoundError", 127, "/no/interpreter"),
    ],
)
def test_commands(
    anyone: User,
    library: str,
    name: str,
    content: str | None,
    mode: int,
    kind: str,
    status: int,
    hint: str,
) -> None:
    if content is not None:
        anyone.write(name, content, mode)
    place = str(anyone.home)
    body = """
home = sys.argv[2]
tell(refusal(plan(f"{home}/{sys.argv[3]}", operations=(Bind(home, source=home),))))
"""
    refused = told(anyone, library, body, place, name)
    assert (refused["class"], refused["exit_code"]) == (kind, status)
    assert refused["phase"] == "exec"
    assert hint in refused["hint"]


def test_a_command_that_is_in_no_directory(anyone: User, library: str) -> None:
    refused = told(anyone, library, 'tell(refusal(plan("no-such-command")))')
    assert refused["class"] == "CommandNotFoundError"
    assert refused["what"] == (
        "no-such-command was not found: it is in no directory of PATH (/bin)"
    )


@pytest.mark.requires("command:unshare")
def test_user_namespaces_that_are_switched_off(anyone: User, library: str) -> None:
    body = """
open("/proc/sys/user/max_user_namespaces", "w").write("0")
tell(refusal(plan("true")))
"""
    done = anyone.run(["unshare", "--user", "--map-root-user", *program(library, body)])
    assert done.returncode == 0, done.stderr
    refused = json.loads(done.stdout)
    assert refused["class"] == "HostError"
    assert refused["what"].startswith("cannot make new namespaces (mount, pid, user)")
    assert "sysctl -w user.max_user_namespaces" in refused["hint"]


@pytest.mark.requires("command:unshare")
def test_in_a_chroot(root: User, library: str) -> None:
    body = 'tell(refusal(plan("true")))'
    # The new root is a plain directory and no mount, with the machine's own mounted in it.
    names = [name for name in os.listdir("/") if os.path.isdir(f"/{name}")]
    for name in names:
        (root.home / name).mkdir()
    binds = " && ".join(f"mount --rbind /{name} {root.home}/{name}" for name in names)
    script = f'{binds} && exec chroot {root.home} "$@"'
    done = root.run(["sh", "-c", script, "sh", *program(library, body)])
    assert done.returncode == 0, done.stderr
    refused = json.loads(done.stdout)
    assert refused["class"] == "HostError"
    assert "chroot" in refused["hint"]


# ---------------------------------------------------------------- the command line's way


def test_becoming_leaves_no_interpreter(anyone: User, library: str) -> None:
    body = 'become(plan("sh", "-c", "echo $0; exit 9"))'
    done = anyone.run(program(library, body))
    assert (done.returncode, done.stdout, done.stderr) == (9, "sh\n", "")
    body = 'become(plan("sleep", "3"))'
    running = anyone.popen(program(library, body))
    try:
        deadline = time.monotonic() + 10
        while not (name := _name(running.pid)).startswith("sublet-exec"):
            assert time.monotonic() < deadline, name
            time.sleep(0.01)
    finally:
        running.kill()
        running.communicate()


def _name(pid: int) -> str:
    with open(f"/proc/{pid}/comm") as file:
        return file.read()


def test_a_failure_is_explained_by_the_reporter(anyone: User, library: str) -> None:
    body = 'become(plan("no-such-command", reporter=command()))'
    done = anyone.run(program(library, body))
    assert done.returncode == 127
    assert done.stderr.splitlines()[0] == (
        "sublet: no-such-command was not found: it is in no directory of PATH (/bin)"
    )


def test_a_report_for_programs(anyone: User, library: str) -> None:
    place = anyone.mkdir("reports")
    body = 'become(plan("sh", "-c", "exit 5", reporter=command(sys.argv[2]), report_always=True))'
    done = anyone.run(program(library, body, str(place / "report.json")))
    assert (done.returncode, done.stderr) == (5, "")
    report = json.loads((place / "report.json").read_text())
    assert (report["ending"], report["status"], report["exit_code"]) == ("exit", 5, 5)
    assert os.listdir(place) == ["report.json"]


def test_a_report_into_a_descriptor(anyone: User, library: str) -> None:
    body = """
one = plan("sh", "-c", "exit 5", reporter=command("7"), report_always=True)
os.dup2(os.open(os.environ["HOME"] + "/report", os.O_CREAT | os.O_WRONLY, 0o600), 7)
become(replace(one, slots=("report",)), {"report": 7})
"""
    done = anyone.run(program(library, body))
    assert (done.returncode, done.stderr) == (5, "")
    assert json.loads((anyone.home / "report").read_text())["status"] == 5


def test_a_timeout_is_said(anyone: User, library: str) -> None:
    body = 'become(plan("sleep", "60", timeout_ms=200, reporter=command()))'
    done = anyone.run(program(library, body))
    assert done.returncode == 124
    assert "the time given (0.2 s) was over" in done.stderr


def test_without_a_reporter_the_executor_says_it_itself(anyone: User, library: str) -> None:
    done = anyone.run(program(library, 'become(plan("no-such-command"))'))
    assert done.returncode == 127
    assert done.stderr.startswith("sublet-exec: exec: ")
