"""`sublet run` on a view of the machine: who one is, what one sees, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import signal
import stat
import time
from typing import TYPE_CHECKING

import pytest

from kernel.sublet_run import Sublet, lines_of_map
from support import probes

if TYPE_CHECKING:
    from support.leaks import Leaks
    from support.users import User

pytestmark = [pytest.mark.requires("userns"), pytest.mark.usefixtures("leaving_nothing")]

DEV = "core fd full null ptmx pts random shm stderr stdin stdout tty urandom zero".split()
NAMESPACES = ("user", "mnt", "pid", "ipc", "uts", "cgroup", "net")
SHOW_MAPS = "cat /proc/self/uid_map; echo; cat /proc/self/gid_map"


@pytest.fixture
def run(sublet_command: list[str], everyone: User) -> Sublet:
    """As root, as alice and as nosub."""
    return Sublet(sublet_command, everyone)


@pytest.fixture
def run_with_sub_ids(sublet_command: list[str], anyone: User) -> Sublet:
    """As root and as alice."""
    return Sublet(sublet_command, anyone)


@pytest.fixture
def run_as_alice(sublet_command: list[str], alice: User) -> Sublet:
    return Sublet(sublet_command, alice)


# ---------------------------------------------------------------- who one is


def test_by_default_you_stay_you(run: Sublet) -> None:
    user = run.user
    assert run.says("--", "id", "-u").split() == [str(user.uid)]
    assert run.says("--", "id", "-g").split() == [str(user.gid)]
    users, groups = run.says("--", "sh", "-c", SHOW_MAPS).split("\n\n")
    assert lines_of_map(users) == [[user.uid, user.uid, 1]]
    assert lines_of_map(groups) == [[user.gid, user.gid, 1]]


def test_who_stays_oneself_has_no_privileges(run: Sublet) -> None:
    status = run.says("--", "cat", "/proc/self/status")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(fields[name], 16) == 0, name
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"


def test_root_is_root_and_nobody_else_is_there(run: Sublet) -> None:
    assert run.says("--ids", "root", "--", "id", "-u") == "0\n"
    users = run.says("--ids", "root", "--", "cat", "/proc/self/uid_map")
    assert lines_of_map(users) == [[0, run.user.uid, 1]]
    status = run.says("--ids", "root", "--", "grep", "CapEff", "/proc/self/status")
    assert int(status.split()[1], 16) != 0


@pytest.mark.requires("newuidmap")
def test_full_maps_all_that_is_delegated(run_with_sub_ids: Sublet) -> None:
    user = run_with_sub_ids.user
    shown = run_with_sub_ids.says("--ids", "full", "--", "sh", "-c", SHOW_MAPS)
    expected = [[0, user.uid, 1], [1, user.sub_ids.start, len(user.sub_ids)]]
    assert [lines_of_map(text) for text in shown.split("\n\n")] == [
        expected,
        [[0, user.gid, 1], expected[1]],
    ]


@pytest.mark.requires("newuidmap")
def test_keep_with_a_user_makes_you_that_one(run_with_sub_ids: Sublet) -> None:
    run, user = run_with_sub_ids, run_with_sub_ids.user
    place = user.mkdir("work")
    script = "id -u; id -g; touch mine; cat /proc/self/uid_map"
    words = ("--ids", "keep:405:100", "--rw", str(place), "-w", str(place))
    uid, gid, *users = run.says(*words, "--", "sh", "-c", script).splitlines()
    assert (uid, gid) == ("405", "100")
    start = user.sub_ids.start
    assert lines_of_map("\n".join(users)) == [
        [0, start, 405],
        [405, user.uid, 1],
        [406, start + 405, len(user.sub_ids) - 405],
    ]
    made = (place / "mine").stat()
    assert (made.st_uid, made.st_gid) == (user.uid, user.gid)


@pytest.mark.requires("newuidmap")
def test_nomap_leaves_you_out(run_with_sub_ids: Sublet) -> None:
    user = run_with_sub_ids.user
    users = run_with_sub_ids.says("--ids", "nomap", "-w", "/", "--", "cat", "/proc/self/uid_map")
    assert lines_of_map(users) == [[0, user.sub_ids.start, len(user.sub_ids)]]


@pytest.mark.requires("newuidmap")
def test_a_hole_for_oneself_needs_no_delegation(run_as_alice: Sublet) -> None:
    run, user = run_as_alice, run_as_alice.user
    start, own = user.sub_ids.start, user.uid
    place = user.mkdir("work")
    spelt = f"b:0:{start}:{own},b:{own}:{own}:1,b:{own + 1}:{start + own + 1}:64534"
    words = ("--ids", spelt, "--user", f"{own}:{own}", "--rw", str(place))
    assert run.says(*words, "--", "sh", "-c", f"touch {place}/f; id -u") == f"{own}\n"
    assert (place / "f").stat().st_uid == own


def test_without_sub_ids_keep_and_root_and_one_user_work(
    sublet_command: list[str], nosub: User
) -> None:
    run = Sublet(sublet_command, nosub)
    assert run.says("--ids", "keep:405:100", "--", "id", "-u") == "405\n"
    status, said = run.fails("--ids", "full", "--", "true")
    assert status == 125
    assert "nosub" in said
    assert "/etc/subuid" in said
    assert 'add the line "nosub:' in said


# ---------------------------------------------------------------- namespaces and descriptors


def test_every_namespace_is_new(run: Sublet) -> None:
    shown = run.says("--", "readlink", *(f"/proc/self/ns/{name}" for name in NAMESPACES))
    outside = [os.readlink(f"/proc/self/ns/{name}") for name in NAMESPACES]
    assert not set(shown.split()) & set(outside)


def test_the_network_can_be_the_machines(run: Sublet) -> None:
    shown = run.says("--net", "host", "--", "readlink", "/proc/self/ns/net")
    assert shown.strip() == os.readlink("/proc/self/ns/net")


def test_by_default_there_is_only_lo_and_it_is_up(run: Sublet) -> None:
    shown = run.says("--", "cat", "/proc/net/dev", "/proc/net/fib_trie")
    devices = [line.split(":")[0].strip() for line in shown.splitlines()[2:] if "lo:" in line]
    assert devices == ["lo"]
    assert "127.0.0.1" in shown


def test_processes_of_the_machine_are_not_to_be_seen(run: Sublet) -> None:
    pids = run.says("--", "sh", "-c", "echo /proc/[0-9]*").split()
    assert "/proc/1" in pids
    assert len(pids) <= 3


def test_only_the_three_standard_descriptors_are_open(run: Sublet) -> None:
    holes = {number: os.open("/", os.O_RDONLY) for number in range(3)}
    kept = os.dup2(holes[0], 40)
    os.set_inheritable(kept, True)
    try:
        shown = run.says("--", "sh", "-c", "echo /proc/self/fd/*", pass_fds=(40,))
    finally:
        for fd in (*holes.values(), kept):
            os.close(fd)
    # the shell's own glob is one more
    numbers = {int(word.rpartition("/")[2]) for word in shown.split()}
    assert numbers <= {0, 1, 2, 3}


# ---------------------------------------------------------------- what one sees


def test_the_system_view_hides_what_is_private(run: Sublet) -> None:
    secret = run.user.write("secret", "s")
    script = f"test ! -e {secret}; echo $?; touch /tmp/x /var/tmp/x; echo $?; ls -A /home /root"
    assert run.says("-w", "/", "--", "sh", "-c", script, cwd="/").startswith("0\n0\n/home:")
    assert not os.path.exists("/tmp/x")


def test_the_working_directory_is_there_to_be_read(run: Sublet) -> None:
    run.user.write("here", "text\n")
    script = "pwd; cat here; touch there 2>/dev/null || echo refused"
    shown = run.says("--", "sh", "-c", script)
    assert shown.splitlines() == [str(run.user.home), "text", "refused"]
    assert not (run.user.home / "there").exists()


@pytest.mark.parametrize("view", ["system", "host"])
def test_the_machine_cannot_be_changed(run: Sublet, view: str) -> None:
    script = "for d in /usr /etc /usr/bin; do touch $d/sublet-test 2>&1; done"
    done = run("run", "--view", view, "--", "sh", "-c", script)
    said = done.stdout.lower()
    assert said.count("read-only file system") == 3
    assert not os.path.exists("/etc/sublet-test")


def test_the_host_view_shows_all_of_the_machine(run: Sublet) -> None:
    shown = set(run.says("--view", "host", "--", "ls", "-A", "/").split())
    assert shown == set(os.listdir("/"))
    assert run.says("--view", "host", "--", "sh", "-c", "echo $$") != f"{os.getpid()}\n"


@pytest.mark.parametrize("view", ["system", "host"])
def test_dev_is_minimal_and_works(run: Sublet, view: str) -> None:
    assert sorted(run.says("--view", view, "--", "ls", "-A", "/dev").split()) == DEV
    script = (
        "head -c4 /dev/zero | wc -c; head -c4 /dev/random > /dev/null;"
        " head -c4 /dev/zero > /dev/full"
    )
    done = run("run", "--view", view, "--", "sh", "-c", script)
    assert done.stdout == "4\n"
    assert "No space left" in done.stderr


def test_what_is_bound_is_written_as_oneself(run: Sublet) -> None:
    place = run.user.mkdir("data")
    words = ("-v", f"{place}:/data", "--tmpfs", "/scratch:size=1m")
    script = "touch /data/f; df -k --output=size /scratch | tail -1; touch /scratch/x"
    assert run.says(*words, "--", "sh", "-c", script).strip() == "1024"
    made = (place / "f").stat()
    assert (made.st_uid, made.st_gid) == (run.user.uid, run.user.gid)


def test_a_bind_can_be_read_only(run: Sublet) -> None:
    place = run.user.mkdir("data")
    status, said = run.fails("-v", f"{place}:/data:ro", "--", "touch", "/data/f")
    assert status == 1
    assert "Read-only file system" in said


def test_a_bind_inside_of_another_comes_after_it(run: Sublet) -> None:
    outer, inner = run.user.mkdir("outer"), run.user.mkdir("inner")
    run.user.write("inner/file", "text")
    words = ("-v", f"{inner}:/data/inner", "-v", f"{outer}:/data")
    (outer / "inner").mkdir()
    run.user.own(outer / "inner")
    assert run.says(*words, "--", "cat", "/data/inner/file") == "text"


@pytest.mark.requires("root")
def test_root_may_bind_from_directories_that_are_closed_to_others(
    sublet_command: list[str], root: User
) -> None:
    closed = root.mkdir("closed")
    (closed / "file").write_text("text")
    os.chown(closed, 1234, 1234)
    closed.chmod(0o700)
    run = Sublet(sublet_command, root)
    words = ("--ids", "b:0:100000:65536", "-v", f"{closed}:/data:ro", "-w", "/")
    assert "/data" in run.says(*words, "--", "ls", "-d", "/data")


# ---------------------------------------------------------------- the process


def test_the_environment_is_yours_and_can_be_changed(run: Sublet) -> None:
    words = ("-e", "A=1", "-e", "HOME", "-e", "NOT_THERE", "--", "env")
    shown = dict(line.split("=", 1) for line in run.says(*words).splitlines())
    assert shown["A"] == "1"
    assert shown["HOME"] == str(run.user.home)
    assert shown["container"] == "sublet"
    assert "NOT_THERE" not in shown
    cleared = run.says("--clearenv", *words)
    assert set(cleared.split()) == {"A=1", f"HOME={run.user.home}"}


def test_home_is_there(run: Sublet) -> None:
    script = 'cd && touch file && stat -c %u "$HOME"'
    assert run.says("-w", "/", "--", "sh", "-c", script, cwd="/") == f"{run.user.uid}\n"
    assert not (run.user.home / "file").exists()


def test_workdir_hostname_and_limits(run: Sublet) -> None:
    words = ("-w", "/usr/bin", "--hostname", "box", "--ulimit", "nofile=64:128")
    script = "pwd; uname -n; ulimit -Sn; ulimit -Hn"
    shown = run.says(*words, "--", "sh", "-c", script)
    assert shown.split() == ["/usr/bin", "box", "64", "128"]


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill -15 $$", 143)]
)
def test_the_exit_status_is_like_a_shells(run: Sublet, script: str, status: int) -> None:
    assert run("run", "--", "sh", "-c", script).returncode == status


def test_a_signal_to_sublet_reaches_the_command(run: Sublet) -> None:
    script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    with run.user.popen([*run.command, "run", "--", "sh", "-c", script]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 7


def test_the_time_ends_everything(run: Sublet) -> None:
    before = time.monotonic()
    done = run("run", "--timeout", "0.3", "--", "sh", "-c", "sleep 60 & sleep 60")
    assert done.returncode == 124
    assert time.monotonic() - before < 30
    assert "0.3 s" in done.stderr


@pytest.mark.parametrize("to", ["file", "descriptor"])
def test_a_report_says_how_it_ended(run: Sublet, to: str) -> None:
    report = run.user.home / "report.json"
    shell = f'exec "$@" 3>{report}'
    where = str(report) if to == "file" else "fd:3"
    words = [*run.command, "run", "--report", where, "--", "sh", "-c", "exit 5"]
    argv = words if to == "file" else ["sh", "-c", shell, "-", *words]
    assert run.user.run(argv).returncode == 5
    got = json.loads(report.read_text())
    assert (got["ending"], got["status"], got["exit_code"]) == ("exit", 5, 5)
    assert got["enforced"]["no_new_privs"] is True


def test_a_report_to_standard_output_comes_after_the_commands(run: Sublet) -> None:
    done = run("run", "--report", "fd:1", "--", "sh", "-c", "echo first; exit 5")
    first, _, rest = done.stdout.partition("\n")
    assert (done.returncode, first, json.loads(rest)["status"]) == (5, "first", 5)


def test_a_report_is_written_of_failures_too(run: Sublet) -> None:
    report = run.user.home / "report.json"
    for words in (("--ids", "nonsense"), ("-v", "/nonexistent:/data")):
        run.fails("--report", str(report), *words, "--", "true")
        got = json.loads(report.read_text())
        assert (got["ending"], got["exit_code"]) == ("setup", 125)
        assert got["error"]["what"]
        report.unlink()


# ---------------------------------------------------------------- privileges


def status_of(run: Sublet, *words: str) -> dict[str, str]:
    """Return the fields of /proc/self/status of a command that `sublet run WORDS` runs."""
    text = run.says(*words, "--", "cat", "/proc/self/status")
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


@pytest.mark.parametrize(
    ("words", "effective", "bounding"),
    [
        (("--ids", "root"), 0x800405FB, 0x800405FB),
        (("--ids", "root", "--cap-add", "net_admin"), 0x800415FB, 0x800415FB),
        (("--ids", "root", "--cap-drop", "all"), 0, 0),
        (("--ids", "root", "--cap-drop", "all", "--cap-add", "CAP_CHOWN"), 1, 1),
        (("--ids", "keep:5:5", "--cap-drop", "chown"), 0, 0x800405FA),
        (("--ids", "keep:5:5", "--cap-add", "net_raw"), 0x2000, 0x800425FB),
        (("--cap-add", "net_raw"), 0x2000, 0x2000),
    ],
)
def test_capabilities(run: Sublet, words: tuple[str, ...], effective: int, bounding: int) -> None:
    got = status_of(run, *words)
    assert (int(got["CapEff"], 16), int(got["CapBnd"], 16)) == (effective, bounding)
    assert got["CapEff"] == got["CapPrm"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "1"),
        (("--new-privs",), "0"),
        (("--ids", "root"), "0"),
        (("--ids", "root", "--no-new-privs"), "1"),
    ],
)
def test_whether_privileges_can_be_gained(
    run: Sublet, words: tuple[str, ...], expected: str
) -> None:
    got = status_of(run, *words)
    assert (got["NoNewPrivs"], got["Seccomp"]) == (expected, "2")


def test_a_filter_of_ones_own_or_none(run: Sublet) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    run.user.write("profile.json", json.dumps(profile))
    done = run("run", "--seccomp", "profile.json", "--", "mkdir", "/tmp/x")
    assert "not supported" in done.stderr
    assert status_of(run, "--seccomp", "none")["Seccomp"] == "0"
    run.says("--seccomp", "none", "--", "mkdir", "/tmp/x")


def test_no_further_user_namespaces_by_default(run: Sublet) -> None:
    for ids in ("keep", "root"):
        done = run("run", "--ids", ids, "--", "unshare", "--user", "true")
        assert done.returncode != 0
        assert "Operation not permitted" in done.stderr
    run.says("--seccomp", "none", "--", "unshare", "--user", "true")


# ---------------------------------------------------------------- terminals


INJECT = """\
import fcntl, os, termios
try:
    fcntl.ioctl(0, termios.TIOCSTI, b"x")
except OSError as error:
    print("refused", error.errno)
else:
    print("injected")
try:
    fcntl.ioctl(0, termios.TIOCSTI | 1 << 32, b"x")
except (OSError, OverflowError):
    print("refused again")
"""


@pytest.mark.requires("command:python3")
@pytest.mark.parametrize("words", [(), ("--seccomp", "none")])
def test_nothing_can_be_typed_into_the_callers_terminal(
    run: Sublet, words: tuple[str, ...]
) -> None:
    program = ("/usr/bin/python3", "-c", INJECT)
    if "injected" not in on_a_terminal(run, *program):
        probes.beyond("this kernel lets nobody type into a terminal (dev.tty.legacy_tiocsti)")
    shown = on_a_terminal(run, *run.command, "run", *words, "--", *program)
    assert "refused" in shown
    assert "injected" not in shown


def on_a_terminal(run: Sublet, *argv: str) -> str:
    """Return what a command prints to a terminal that is its own session's."""
    master, slave = pty.openpty()
    process = run.user.popen(
        ["setsid", "--ctty", "--wait", *argv], stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    output = b""
    while True:
        try:
            more = os.read(master, 4096)
        except OSError:
            break
        if not more:
            break
        output += more
    os.close(master)
    process.wait(10)
    return output.decode().replace("\r\n", "\n")


def test_a_terminal_of_its_own(run: Sublet) -> None:
    script = "tty; ls -A /dev; test -c /dev/console && echo console works"
    shown = on_a_terminal(run, *run.command, "run", "-t", "--", "sh", "-c", script).split("\n")
    assert shown[0].startswith("/dev/pts/") or shown[0] == "/dev/console"
    assert "console works" in shown
    assert "console" in " ".join(shown).split()


def test_without_t_the_callers_terminal_is_kept(run: Sublet) -> None:
    assert (
        on_a_terminal(run, *run.command, "run", "--", "sh", "-c", "test -t 0 && echo yes")
        == "yes\n"
    )


# ---------------------------------------------------------------- plans


def test_a_plan_does_nothing(run: Sublet, leaving_nothing: Leaks) -> None:
    leaving_nothing.watch(run.user.home)
    touch = str(run.user.home / "made")
    text = run.says("--plan", "--rw", ".", "--", "touch", touch)
    assert f"Run touch {touch}" in text
    json.loads(run.says("--plan", "--json", "--", "true"))


def test_a_plan_can_be_kept_explained_converted_and_run(run: Sublet) -> None:
    home = run.user.home
    saved = run.says("--plan", "--json", "--", "sh", "-c", "id -u; exit 6")
    run.user.write("plan.json", saved)
    assert "Run sh" in run("plan", "explain", "plan.json").stdout
    assert run("plan", "convert", "plan.json", "plan.wire").returncode == 0
    assert stat.S_ISREG((home / "plan.wire").stat().st_mode)
    assert json.loads(run("plan", "convert", "plan.wire").stdout) == json.loads(saved)
    for name in ("plan.json", "plan.wire"):
        done = run("plan", "run", name)
        assert (done.returncode, done.stdout) == (6, f"{run.user.uid}\n"), done.stderr


@pytest.mark.parametrize("mounts", ["", "m"])
def test_it_works_in_a_user_namespace_of_the_callers(run: Sublet, mounts: str) -> None:
    """With CAP_SYS_ADMIN over the mounts there, and without."""
    words = [*run.command, "run", "--", "id", "-u"]
    done = run.user.run(["unshare", f"-Ur{mounts}", *words])
    assert (done.stdout, done.stderr, done.returncode) == ("0\n", "", 0)
