"""However it ends, and whoever is killed: no process and no mount is left.

Which case is which: docs/security-tests.md.
"""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from kernel.sublet_run import PROGRAMS, Sublet, make_tree

if TYPE_CHECKING:
    from pathlib import Path

    from support.users import User

pytestmark = [pytest.mark.requires("userns"), pytest.mark.usefixtures("leaving_nothing")]

ROUNDS = int(os.environ.get("SUBLET_TEST_KILLS", "12"))
"""Kills in each of the tests that kill at random."""

# Starts a command ROUNDS times, and kills one random process of its tree after a random time. As a
# subreaper it is told of every process below it, however far that has gone away: it cannot end
# before all of them have.
KILLER = r"""
import ctypes, json, os, random, signal, subprocess, sys, time
rounds, longest, seed, *command = sys.argv[1:]
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
random.seed(int(seed))
def below():
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = open(f"/proc/{name}/stat").read()
            except OSError:
                continue
            program, rest = stat[stat.index("(") + 1:stat.rindex(")")], stat[stat.rindex(")") + 2:]
            if rest[0] != "Z":
                parents[int(name)] = int(rest.split()[1]), program
    found, todo = {}, [os.getpid()]
    while todo:
        one = todo.pop()
        for pid, (parent, program) in parents.items():
            if parent == one and pid not in found:
                found[pid] = program
                todo.append(pid)
    return found
killed = {}
for _ in range(int(rounds)):
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, start_new_session=True)
    time.sleep(random.uniform(0, float(longest)))
    tree = below()
    if tree:
        pid = random.choice(list(tree))
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        else:
            killed[tree[pid]] = killed.get(tree[pid], 0) + 1
    # Whoever was killed, the whole must end: if it was a bystander, we end it as a user would.
    end = time.monotonic() + 10
    stopped = False
    while time.monotonic() < end:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid == 0:
            if not stopped and time.monotonic() > end - 9.7:
                stopped = True
                for one in {child.pid} & below().keys():
                    os.kill(one, signal.SIGKILL)
            time.sleep(0.002)
    else:
        print("LEFT", below())
        for one in below():
            os.kill(one, signal.SIGKILL)
        sys.exit(1)
    child.returncode = 0
print(json.dumps(killed))
"""
FAMILY = (
    "sleep 30 & setsid sleep 30 & (trap '' TERM HUP INT; sleep 30; sleep 30) &"
    " (setsid sh -c 'sleep 30 & sleep 30' &) ; sleep 30"
)


@pytest.fixture
def run(sublet_command: list[str], anyone: User) -> Sublet:
    """As root and as alice."""
    return Sublet(sublet_command, anyone)


@pytest.fixture
def run_as_alice(sublet_command: list[str], alice: User) -> Sublet:
    return Sublet(sublet_command, alice)


def kill_at_random(user: User, longest: float, *command: str, rounds: int = ROUNDS) -> list[str]:
    """Kill somebody in each of many starts; return the programs of those who were killed."""
    seed = str(time.time_ns() % 100_000 if "CI" not in os.environ else 7)
    words = ["python3", "-c", KILLER, str(rounds), str(longest), seed, *command]
    done = user.run(words, timeout=rounds * 12)
    assert done.returncode == 0, (f"seed {seed}", done.stdout, done.stderr)
    killed: dict[str, int] = json.loads(done.stdout)
    return list(killed)


def saved_plan(run: Sublet, *words: str) -> str:
    """Return the path of a plan in the executor's form."""
    shown = run("run", *words, "--plan", "--json", "--", "sh", "-c", FAMILY)
    assert shown.returncode == 0, shown.stderr
    run.user.write("saved.json", shown.stdout)
    assert run("plan", "convert", "saved.json", "saved.plan").returncode == 0
    return str(run.user.home / "saved.plan")


# ---------------------------------------------------------------- kill -9


@pytest.mark.parametrize("ids", ["keep", "root", "full"])
@pytest.mark.requires("newuidmap")
def test_whoever_is_killed_takes_all_along(run: Sublet, sublet_exec: Path, ids: str) -> None:
    plan = saved_plan(run, "--ids", ids, "-w", "/")
    killed = kill_at_random(run.user, 0.02, str(sublet_exec), plan)
    assert killed


def test_killed_while_it_is_planned(run: Sublet) -> None:
    command = [*run.command, "run", "-w", "/", "--", "sh", "-c", FAMILY]
    kill_at_random(run.user, 0.15, *command, rounds=ROUNDS // 3)


@pytest.mark.requires("newuidmap")
def test_killed_while_an_archive_is_unpacked(run: Sublet) -> None:
    user = run.user
    tree = make_tree(user)
    for number in range(300):
        user.write(f"rootfs/var/{number}", "x" * 3000)
    shutil.make_archive(str(user.home / "tree"), "tar", tree)
    command = [*run.command, "run", "--ids", "full", "--rootfs", "tree.tar", *PROGRAMS]
    # Another archive each time, so that each start unpacks.
    shell = 'printf %s "$$" >> tree.tar; exec "$@"'
    kill_at_random(user, 0.4, "sh", "-c", shell, "sh", *command, "--", "true", rounds=ROUNDS // 3)
    done = run(*command[1:], "--", "ls", "/var/299")
    assert done.stdout == "/var/299\n", done.stderr
    trees = os.listdir(user.home / ".cache/sublet/trees")
    assert trees
    assert not [name for name in trees if name.endswith(".partial")], "the next one sweeps"


@pytest.mark.parametrize("option", [True, False], ids=["die-with-parent", "without"])
def test_the_callers_death(run: Sublet, option: bool) -> None:
    """With --die-with-parent it ends with its caller; without, it goes on, to its own end."""
    words = ["--die-with-parent"] if option else []
    path = run.user.home / "alive"
    script = f"echo > {path}; sleep 0.7; echo still >> {path}"
    command = [*run.command, "run", *words, "--rw", str(run.user.home), "--", "sh", "-c", script]
    parent = run.user.popen(["sh", "-c", '"$@" & wait', "sh", *command])
    with parent:
        while not path.exists():
            time.sleep(0.01)
        parent.kill()
    time.sleep(1.2)
    assert path.read_text() == ("\n" if option else "\nstill\n")


# ---------------------------------------------------------------- signals from inside


@pytest.mark.parametrize("ids", ["keep", "root"])
def test_init_survives_its_children(run: Sublet, ids: str) -> None:
    signals = "import os; [os.kill(1, s) for s in (9, 19)]; print('here', flush=True); os._exit(5)"
    done = run("run", "--ids", ids, "--", "python3", "-c", signals)
    assert (done.returncode, done.stdout) == (5, "here\n")
    forwarded = "trap 'echo term; exit 7' TERM; kill -TERM 1; while :; do sleep 0.02; done"
    done = run("run", "--ids", ids, "--timeout", "10", "--", "sh", "-c", forwarded)
    assert (done.returncode, done.stdout) == (7, "term\n")


def test_a_broken_init_would_show(run: Sublet) -> None:
    """The control of the test above: an ordinary process does not survive."""
    program = "import os, signal; p = os.fork()\nif not p: signal.pause()\n"
    program += "os.kill(p, 9); print(os.waitpid(p, 0)[1])"
    assert run.says("--", "python3", "-c", program) == "9\n"


def test_forged_child_signals_mean_nothing(run: Sublet) -> None:
    program = (
        "import os, signal, time\n"
        "for n in list(range(34, 64)) + [17, 29, 23, 28]:\n"
        "    signal.signal(n, signal.SIG_IGN) if n != 17 else None\n"
        "    os.kill(1, n)\n"
        "time.sleep(0.1); print('here')"
    )
    assert run.says("--", "python3", "-c", program) == "here\n"


# ---------------------------------------------------------------- payloads that will not go


STUBBORN = {
    "daemon": "import os\nif os.fork(): os._exit(3)\nos.setsid()\nif os.fork(): os._exit(0)\n"
    "import time; time.sleep(60)",
    "ignoring": "import os, signal, time\nfor n in range(1, 65):\n    try: signal.signal(n, 1)\n"
    "    except OSError: pass\nif os.fork(): os._exit(3)\ntime.sleep(60)",
    "orphans": "import os\nfor _ in range(1500):\n    p = os.fork()\n    if not p:\n"
    "        if not os.fork(): os._exit(0)\n        os._exit(0)\n    os.waitpid(p, 0)\nos._exit(3)",
    "closed": "import os, time\nos.closerange(0, 4096)\n"
    "if not os.fork(): time.sleep(60)\nos._exit(3)",
    "stopped child": "import os, signal, time\np = os.fork()\nif not p: time.sleep(60)\n"
    "os.kill(p, 19)\nos._exit(3)",
    "tree": "import os, time\nfor _ in range(8): os.fork()\n"
    "time.sleep(0.3 if os.getpid() == 2 else 60)\nos._exit(3)",
}


@pytest.mark.parametrize("name", sorted(STUBBORN))
def test_with_the_command_everything_ends(run: Sublet, name: str) -> None:
    start = time.monotonic()
    # What closes its output ends the pipe; what does not would keep the reader waiting.
    done = run("run", "--", "python3", "-c", STUBBORN[name])
    assert done.returncode == 3, done.stderr
    assert time.monotonic() - start < 30


ENDLESS = {
    "sleep": "sleep 60",
    "stopped": "kill -STOP $$; sleep 60",
    "deaf": "trap '' TERM HUP INT QUIT USR1; while :; do sleep 60; done",
    "flood": "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done",
    "setsid": "setsid sleep 60 & setsid sh -c 'sleep 60' & wait",
}


@pytest.mark.parametrize("name", sorted(ENDLESS))
def test_the_time_is_over_for_everybody(run: Sublet, name: str) -> None:
    words = [*run.command, "run", "--timeout", "0.3", "--", "sh", "-c", ENDLESS[name]]
    with run.user.popen(words) as started:  # nobody reads what it says
        assert ending(started) == 124
        started.stdout.read() if started.stdout else None


def ending(started: subprocess.Popen[str]) -> int:
    """Return the exit status; what hangs is killed."""
    try:
        return started.wait(20)
    except subprocess.TimeoutExpired:
        started.kill()
        raise


@pytest.mark.parametrize("kind", ["pipe", "terminal"])
def test_a_reader_that_does_not_read_holds_nothing_up(run_as_alice: Sublet, kind: str) -> None:
    """With -t the supervisor relays: it must neither block in a write nor wait for the rest."""
    user = run_as_alice.user
    ours, theirs = os.pipe() if kind == "pipe" else pty.openpty()
    try:
        words = [*run_as_alice.command, "run", "-t", "-w", "/"]
        with user.popen([*words, "--timeout", "0.4", "--", "yes"], stdout=theirs) as started:
            assert ending(started) == 124
        with user.popen([*words, "--", "yes"], stdout=theirs) as started:
            time.sleep(0.5)
            started.terminate()
            assert ending(started) == 128 + signal.SIGTERM
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_bomb_is_bounded(run_as_alice: Sublet) -> None:
    """--ulimit nproc counts an ordinary user's processes; --timeout ends them all."""
    bomb = (
        "import os\nmade = 0\n"
        "try:\n    while made < 400:\n        if not os.fork():\n"
        "            import signal; signal.pause()\n        made += 1\n"
        "except BlockingIOError:\n    print('refused')\nelse:\n    print('all', made)\n"
    )
    shown = run_as_alice.says("--ulimit", "nproc=60", "--", "python3", "-c", bomb)
    assert shown == "refused\n"
    assert run_as_alice.says("--", "python3", "-c", bomb) == "all 400\n", "the control"


def test_a_stopped_supervisor_goes_on(run: Sublet) -> None:
    """While it is stopped it counts no time; when it goes on, it does what is due."""
    words = [*run.command, "run", "--timeout", "1", "-w", "/", "--", "sleep", "60"]
    with run.user.popen(words) as started:
        time.sleep(0.4)
        os.kill(started.pid, signal.SIGSTOP)
        time.sleep(0.8)
        assert started.poll() is None
        os.kill(started.pid, signal.SIGCONT)
        assert started.wait(10) == 124


def test_a_reader_that_goes_away(run: Sublet) -> None:
    line = " ".join([*run.command, "run", "--", "yes", "|", "head", "-1"])
    done = run.user.run(["bash", "-c", f'{line}; echo "${{PIPESTATUS[0]}}"'])
    assert done.stdout == "y\n141\n"


# ---------------------------------------------------------------- the channel

FORGE = (
    "import os, socket\n"
    "found = []\n"
    "for fd in range(0, 256):\n"
    "    try: s = socket.socket(fileno=os.dup(fd))\n"
    "    except OSError: continue\n"
    "    found.append(fd)\n"
    "print(found)\n"
)


def test_the_channel_is_out_of_reach(run: Sublet, sublet_exec: Path) -> None:
    """With a launcher that listens, the command finds no socket to forge messages on."""
    plan = run("run", "-w", "/", "--plan", "--json", "--", "python3", "-c", FORGE)
    run.user.write("p.json", plan.stdout)
    assert run("plan", "convert", "p.json", "p.plan").returncode == 0
    launcher = (
        "import os, socket, subprocess, sys\n"
        "ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "done = subprocess.run([sys.argv[1], '--channel', str(theirs.fileno()), 'p.plan'],"
        " pass_fds=[theirs.fileno()], capture_output=True, text=True)\n"
        "theirs.close()\n"
        "kinds = []\n"
        "while (data := ours.recv(4096)):\n    kinds.append(data[2])\n"
        "print(done.stdout.strip(), len(kinds), done.returncode)\n"
    )
    done = run.user.run(["python3", "-c", launcher, str(sublet_exec)])
    assert done.stdout == "[] 4 0\n", (done.stdout, done.stderr)


def test_nothing_was_left_in_shared_places(run: Sublet) -> None:
    """Neither a directory in /tmp, nor a cgroup, nor a memory file of the caller's."""
    before = sorted(os.listdir("/dev/shm")), cgroups()
    for words in (("--", "true"), ("--", "/missing"), ("--timeout", "0.05", "--", "sleep", "9")):
        run("run", *words)
    assert not [name for name in os.listdir("/tmp") if name.startswith("sublet-exec")]
    assert (sorted(os.listdir("/dev/shm")), cgroups()) == before


def cgroups() -> set[str]:
    return {
        os.path.join(folder, name)
        for folder, names, _ in os.walk("/sys/fs/cgroup")
        for name in names
        if "sublet" in name
    }
