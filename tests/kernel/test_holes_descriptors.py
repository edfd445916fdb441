"""What a command could find open, trace, overwrite or type into: nothing of the outside.

Which case is which: docs/security-tests.md.
"""

from __future__ import annotations

import os
import pty
import select
import shutil
import stat
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kernel.sublet_run import PROGRAMS, Sublet, make_tree
from sublet._value import replace
from sublet.plan.codec import encode
from sublet.plan.jsonform import from_json
from support import probes

if TYPE_CHECKING:
    from support.users import User

pytestmark = [pytest.mark.requires("userns"), pytest.mark.usefixtures("leaving_nothing")]

LEAKY = (
    "import os, sys\n"
    "for fd in range(3, 51):\n"
    "    os.dup2(os.open('/' if fd % 2 else '/etc/passwd', os.O_RDONLY), fd)\n"
    "    os.set_inheritable(fd, True)\n"
    "os.execvp(sys.argv[1], sys.argv[1:])\n"
)
OPEN = "import os; print(*sorted(int(fd) for fd in os.listdir('/proc/self/fd'))[:-1])"


@pytest.fixture
def run(sublet_command: list[str], anyone: User) -> Sublet:
    """As root and as alice."""
    return Sublet(sublet_command, anyone)


@pytest.fixture
def run_as_alice(sublet_command: list[str], alice: User) -> Sublet:
    return Sublet(sublet_command, alice)


def leaky(run: Sublet, *words: str) -> tuple[int, str, str]:
    """Run `sublet run WORDS` with descriptors 3 to 50 open and inherited."""
    done = run.user.run(["python3", "-c", LEAKY, *run.command, "run", *words])
    return done.returncode, done.stdout, done.stderr


# ---------------------------------------------------------------- what is open


@pytest.mark.parametrize("ids", ["keep", "root"])
def test_only_the_three_are_open_inside(run: Sublet, ids: str) -> None:
    control = run.user.run(["python3", "-c", LEAKY, "python3", "-c", OPEN])
    assert len(control.stdout.split()) > 40, "the control: outside they are inherited"
    status, shown, errors = leaky(run, "--ids", ids, "--", "python3", "-c", OPEN)
    assert (status, shown) == (0, "0 1 2\n"), errors


def test_holes_among_the_three_are_filled(run_as_alice: Sublet) -> None:
    user = run_as_alice.user
    inside = "import os; print([os.readlink(f'/proc/self/fd/{n}') for n in (0, 2)])"
    words = [*run_as_alice.command, "run", "--", "python3", "-c", f"{OPEN}; {inside}"]
    done = user.run(["sh", "-c", 'exec "$@" 0<&- 2>&-', "sh", *words])
    assert done.stdout == "0 1 2\n['/dev/null', '/dev/null']\n"
    done = user.run(["sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh", *words[:3], "false"])
    assert done.returncode == 1
    done = user.run(["sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh", *words[:3], "/missing"])
    assert done.returncode == 127


@pytest.mark.parametrize("view", ["host", "system"])
def test_no_descriptor_is_a_working_directory(run: Sublet, sublet_exec: Path, view: str) -> None:
    """CVE-2024-21626. With --view host, number 5 was once the machine's /proc."""
    user = run.user
    script = "stat -c %d:%i . /; readlink self; readlink 1/exe"
    shown = run("run", "--view", view, "--plan", "--json", "--", "sh", "-c", script)
    plan = from_json(shown.stdout)
    # The executor itself says what failed: that is quicker.
    plan = replace(plan, supervision=replace(plan.supervision, reporter=()))
    numbers = range(3, 51)
    for number in (*numbers, "cwd"):
        where = f"/proc/self/fd/{number}" if number != "cwd" else "/usr"
        process = replace(plan.process, directory=where)
        (user.home / f"{number}.plan").write_bytes(encode(replace(plan, process=process)))
    each = f"{sublet_exec} $n.plan 2>/dev/null </dev/null | tr '\\n' ' '"
    many = f"for n in $(seq 3 50) cwd; do echo $n $({each}); done"
    done = user.run(["python3", "-c", LEAKY, "sh", "-c", many])
    *lines, control = done.stdout.splitlines()
    assert len(control.split()) > 2, "the control: in a directory that is there, it says where"
    assert lines == [str(number) for number in numbers], done.stdout


@pytest.mark.parametrize("where", ["/proc/1/root", "/proc/1/cwd", "/proc/1/fd/3", "/proc/self/cwd"])
@pytest.mark.parametrize("ids", ["keep", "root"])
def test_no_other_process_is_a_working_directory(run: Sublet, where: str, ids: str) -> None:
    done = run("run", "--view", "host", "--ids", ids, "-w", where, "--", "pwd")
    if where == "/proc/self/cwd" and done.returncode == 0:
        assert done.stdout.startswith("/")
        return
    assert done.returncode == 125, done.stdout


def test_no_descriptor_of_set_up_is_a_command(run: Sublet) -> None:
    for number in range(3, 13):
        for words in (f"/proc/self/fd/{number}", f"/proc/self/fd/{number}/self/exe"):
            assert run("run", "--view", "host", "--", words).returncode in {126, 127}


def test_the_report_and_the_lock_stay_outside(run: Sublet) -> None:
    """Descriptors that the supervisor holds are none of the command's."""
    words = [*run.command, "run", "--report", "fd:7", "--", "python3", "-c", OPEN]
    shell = 'exec 7> report.json; exec "$@"'
    done = run.user.run(["sh", "-c", shell, "sh", *words])
    assert done.stdout == "0 1 2\n", done.stderr
    assert '"exit_code": 0' in (run.user.home / "report.json").read_text()


# ---------------------------------------------------------------- init and the executor's program

REACH = r"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def attempt(name, what):
    try:
        what()
    except OSError as error:
        print(name, "refused", error.errno)
    else:
        print(name, "DONE")
def traced():
    if libc.ptrace(0x4206, pid, 0, 0) < 0:  # PTRACE_SEIZE
        raise OSError(ctypes.get_errno(), "ptrace")
    libc.ptrace(17, pid, 0, 0)
class iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]
def vm():
    buffer = ctypes.create_string_buffer(8)
    here, there = iovec(ctypes.addressof(buffer), 8), iovec(0x400000, 8)
    if libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) < 0:
        if ctypes.get_errno() != 14:
            raise OSError(ctypes.get_errno(), "vm")
def steal():
    pidfd = os.pidfd_open(pid)
    for number in range(0, 20):
        if libc.syscall(438, pidfd, number, 0) >= 0:
            return
        if ctypes.get_errno() != 9:
            raise OSError(ctypes.get_errno(), "pidfd_getfd")
    raise OSError(9, "none open")
pid = int(sys.argv[1])
attempt("exe", lambda: os.open(f"/proc/{pid}/exe", os.O_RDONLY))
attempt("overwrite", lambda: os.open(f"/proc/{pid}/exe", os.O_WRONLY))
attempt("readlink", lambda: os.readlink(f"/proc/{pid}/exe"))
attempt("mem", lambda: os.open(f"/proc/{pid}/mem", os.O_RDWR))
attempt("fd", lambda: [os.readlink(f"/proc/{pid}/fd/{n}") for n in range(3)])
attempt("environ", lambda: open(f"/proc/{pid}/environ").read(1))
attempt("maps", lambda: open(f"/proc/{pid}/maps").read(1))
attempt("root", lambda: os.listdir(f"/proc/{pid}/root/"))
attempt("cwd", lambda: os.listdir(f"/proc/{pid}/cwd/"))
attempt("ns", lambda: os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY))
attempt("ptrace", traced)
attempt("vm", vm)
attempt("getfd", steal)
"""
AIMS = "exe overwrite readlink mem fd environ maps root cwd ns ptrace vm getfd".split()


@pytest.mark.parametrize("ids", ["keep", "root", "host"])
def test_init_cannot_be_looked_into(run: Sublet, ids: str) -> None:
    """CVE-2016-9962, CVE-2019-5736: as root inside, with every capability, without a filter."""
    if ids == "host" and run.user.uid != 0:
        probes.beyond("--ids host is for root")
    more = ["--cap-add", "all", "--seccomp", "none"] if ids != "keep" else ["--seccomp", "none"]
    victim = "sleep 9 & p=$!; sleep 0.1;"
    script = f'{victim} python3 -c "$1" 1; echo --; python3 -c "$1" $p; kill $p'
    shown = run.says("--ids", ids, *more, "--", "sh", "-c", script, "sh", REACH)
    init, control = shown.split("--\n")
    answers = dict(line.split(" ", 1) for line in control.splitlines())
    assert answers["ptrace"] == answers["mem"] == answers["fd"] == "DONE", "the control: a child"
    if ids == "host":
        # No user namespace keeps root with all capabilities from anything.
        return
    for line in init.splitlines():
        name, answer = line.split(" ", 1)
        assert answer.startswith("refused"), (name, answer)
    assert len(init.splitlines()) == len(AIMS)


OVERWRITE = r"""
import os, sys
won = 0
for _ in range(2000):
    for pid in [p for p in os.listdir("/proc") if p.isdigit()] + ["self"]:
        try:
            path = os.readlink(f"/proc/{pid}/exe")
            if "sublet" in path:
                won += 1
            fd = os.open(f"/proc/{pid}/exe", os.O_WRONLY)
        except OSError:
            continue
        won += 1
        os.close(fd)
    break
print(won)
"""


def test_the_executor_cannot_be_overwritten(run: Sublet, sublet_exec: Path) -> None:
    before = (sublet_exec.read_bytes(), sublet_exec.stat().st_mtime_ns)
    words = ("--ids", "root", "--cap-add", "all", "--seccomp", "none", "--view", "host")
    shown = run.says(*words, "--", "python3", "-c", OVERWRITE)
    assert shown == "0\n"
    # A "#!" line that names /proc/self/exe has the kernel execute what started it: the executor,
    # which finds neither a plan nor, with the default filter, anything that it could start.
    script = run.user.write("script", "#!/proc/self/exe\n", 0o755)
    link = run.user.home / "link"
    link.symlink_to("/proc/self/exe")
    for command in (script, link):
        done = run("run", *words, "--", str(command), str(script))
        assert done.returncode == 125, done.stdout
        assert done.stderr.startswith("sublet-exec: "), done.stderr
    assert (sublet_exec.read_bytes(), sublet_exec.stat().st_mtime_ns) == before


def test_an_executor_of_the_users_own_runs_from_a_copy(run: Sublet, sublet_exec: Path) -> None:
    """Its owner is somebody inside and could write to it; what runs cannot be written at all."""
    own = run.user.own(Path(shutil.copy(sublet_exec, run.user.home)))
    shown = {}
    for name, executor in (("own", own), ("other's", sublet_exec)):
        argv = [*run.command, "run", "--", "sh", "-c", "echo; read _"]
        process = run.user.popen(argv, env={"SUBLET_EXEC": str(executor)}, stdin=-1)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        shown[name] = os.readlink(f"/proc/{process.pid}/exe")
        process.communicate()
        assert process.returncode in {0, 1}
    assert shown["own"] == "/memfd:sublet-exec (deleted)"
    kept = run.user.uid != sublet_exec.stat().st_uid
    assert (shown["other's"] == str(sublet_exec)) == kept


# ---------------------------------------------------------------- set-user-ID copies


@pytest.mark.parametrize("bits", [stat.S_ISUID, stat.S_ISGID])
def test_a_set_id_copy_refuses(
    root: User, alice: User, place: Path, sublet_exec: Path, bits: int
) -> None:
    """CVE-2026-41163: the executor is not to be made setuid."""
    del root  # for the test to be one of root's
    folder = place / "users" / f"setid-{os.getpid()}-{bits}"
    folder.mkdir(mode=0o755)
    copy = folder / "sublet-exec"
    shutil.copy(sublet_exec, copy)
    copy.chmod(0o755)
    plain = alice.run([copy, "--version"])
    assert plain.returncode == 0, "the control: an ordinary copy"
    if os.statvfs(folder).f_flag & os.ST_NOSUID:
        probes.beyond("the tests' directory is on a nosuid mount")
    copy.chmod(0o755 | bits)
    probe = folder / "id"
    shutil.copy(shutil.which("id") or "/usr/bin/id", probe)
    probe.chmod(0o755 | bits)
    assert "=0(" in alice.run([probe]).stdout, "the control: the bit works here"
    done = alice.run([copy, "--version"])
    assert done.returncode == 125
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    shutil.rmtree(folder)


# ---------------------------------------------------------------- the terminal

TYPE = r"""
import ctypes
high = 1 << 40
libc = ctypes.CDLL(None, use_errno=True)
def raw(name, request, argument):
    buffer = ctypes.create_string_buffer(argument)
    if libc.syscall(16, 0, ctypes.c_ulong(request), buffer) < 0:
        print(name, "refused", ctypes.get_errno(), flush=True)
    else:
        print(name, "DONE", flush=True)
for c in b"EVIL":
    raw("TIOCSTI", 0x5412, bytes([c]))
raw("TIOCSTI-high", 0x5412 | high, b"H")
raw("TIOCSTI-top", 0x5412 | 1 << 63, b"T")
raw("TIOCLINUX", 0x541C, b"\x03")
raw("TIOCLINUX-high", 0x541C | high, b"\x03")
print("end", flush=True)
"""


def typed_into(user: User, argv: list[str]) -> tuple[str, bytes]:
    """Run *argv* with a new controlling terminal; return what it printed, and what had been typed
    into that terminal when it had ended."""
    pid, master = pty.fork()
    if pid == 0:
        prefix, environment = user._arguments(argv, None)
        try:
            os.chdir(user.home)
            holder = os.fork()
            if holder == 0:
                os.execvpe(prefix[0], prefix, environment)
            os.waitpid(holder, 0)
            # What is in the terminal's input is for whoever reads next: as a shell would.
            attributes = termios.tcgetattr(0)
            attributes[3] &= ~(termios.ICANON | termios.ECHO)
            termios.tcsetattr(0, termios.TCSANOW, attributes)
            os.set_blocking(0, False)
            try:
                left = os.read(0, 100)
            except BlockingIOError:
                left = b""
            os.write(1, b"LEFT:" + left.hex().encode() + b":\n")
        finally:
            os._exit(0)
    shown = b""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if not select.select([master], [], [], 0.1)[0]:
            continue
        try:
            more = os.read(master, 4096)
        except OSError:
            break
        shown += more
    os.close(master)
    os.waitpid(pid, 0)
    text, _, rest = shown.decode(errors="replace").partition("LEFT:")
    return text, bytes.fromhex(rest.partition(":")[0])


def types(user: User, argv: list[str]) -> bytes:
    text, left = typed_into(user, argv)
    assert "end" in text, text
    return left


@pytest.fixture
def legacy_tiocsti() -> None:
    """Skip where the kernel itself refuses TIOCSTI to everybody."""
    path = Path("/proc/sys/dev/tty/legacy_tiocsti")
    if path.exists() and path.read_text().strip() == "0":
        probes.beyond("the kernel refuses TIOCSTI (dev.tty.legacy_tiocsti)")


@pytest.mark.usefixtures("legacy_tiocsti")
def test_the_terminal_can_be_typed_into_outside(alice: User) -> None:
    assert types(alice, ["python3", "-c", TYPE]).startswith(b"EVIL")


@pytest.mark.requires("command:bwrap")
@pytest.mark.usefixtures("legacy_tiocsti")
def test_the_terminal_can_be_typed_into_from_a_peer(alice: User) -> None:
    """CVE-2017-5226, in bubblewrap without --new-session."""
    peer = ["bwrap", "--ro-bind", "/", "/", "--proc", "/proc", "--", "python3", "-c", TYPE]
    if alice.run([*peer[:-2], "-c", "0"]).returncode:
        probes.beyond("bubblewrap does not work here")
    assert types(alice, peer).startswith(b"EVIL")


@pytest.mark.usefixtures("legacy_tiocsti")
@pytest.mark.parametrize("filtered", [True, False], ids=["filter", "nofilter"])
@pytest.mark.parametrize("own", [True, False], ids=["-t", "no-t"])
def test_the_terminal_cannot_be_typed_into(run: Sublet, own: bool, filtered: bool) -> None:
    words = ["--seccomp", "none"] if not filtered else []
    words += ["-t"] if own else []
    argv = [*run.command, "run", *words, "--", "python3", "-c", TYPE]
    left = types(run.user, argv)
    assert left == b""


def test_the_loopback_of_the_relay_is_no_way_out(run: Sublet) -> None:
    """With -t, /dev/tty and /dev/console are the command's own terminal."""
    script = "tty; stat -Lc %t:%T /dev/tty; ps -o tty= -p $$ >/dev/null; echo end"
    argv = [*run.command, "run", "-t", "--", "sh", "-c", script]
    text, left = typed_into(run.user, argv)
    assert "end" in text, text
    assert "/dev/pts/0" in text or "/dev/console" in text, text
    assert left == b""


# ---------------------------------------------------------------- words that are no words


@pytest.mark.parametrize(
    "name", ["-x", "--writable", "new\nline", "a:b,c\\d", "..x", "sp ace", "%s"]
)
def test_names_are_names(run: Sublet, name: str) -> None:
    """CVE-2024-32462: neither the path of a tree, nor a source, is taken for an option."""
    tree = make_tree(run.user, name)
    for way in ([], ["--writable"]):
        done = run("run", *way, "--rootfs", name, *PROGRAMS, "--", "cat", "/etc/os-release")
        assert done.stdout == "ID=little\n", done.stderr
    if ":" in name:
        return
    words = ("-v", f"{tree}:/mnt:ro", "-w", "/mnt/etc", "--", "cat", "os-release")
    assert run.says(*words) == "ID=little\n"


def test_odd_commands_and_variables_reach_nobody_else(run: Sublet) -> None:
    for odd in ("-x", "--", "--plan", "--version", "-c"):
        done = run("run", "--", odd)
        assert done.returncode == 127, (odd, done.stderr)
        assert done.stderr.startswith("sublet: ")
    program = run.user.write("--plan", '#!/bin/sh\necho ran "$@"\n', 0o755)
    place = str(run.user.home)
    shown = run.says("-v", f"{place}:/mnt:ro", "-w", "/mnt", "--", "./--plan", "--", "-x")
    assert shown == "ran -- -x\n", program
    odd_names = ["a b=1", "BASH_FUNC_x%%=() { :; }", "-x=2", "\n=3"]
    show = "import os; print(os.environ['a b'], os.environ['\\n'])"
    argv = [*run.command, "run", "--", "python3", "-Ic", show]
    assert run.user.run(["env", *odd_names, *argv]).stdout == "1 3\n"
    for bad in ("=x", "", "A\nB"):
        done = run("run", "-e", bad, "--", "true")
        assert done.returncode == (125 if bad in {"", "=x"} else 0), bad


@pytest.mark.parametrize("name", ["-x", "a\nb", "x" * 64, "a b", "../x"])
def test_host_names_are_data(run_as_alice: Sublet, name: str) -> None:
    shown = run_as_alice.says(
        "--hostname", name, "--", "python3", "-c", "import os; print(os.uname()[1])"
    )
    assert shown == f"{name}\n"
    assert os.uname().nodename != name


def test_a_name_of_a_layer_is_no_path(run_as_alice: Sublet) -> None:
    make_tree(run_as_alice.user)
    for name in ("..", ".", "../x", "/x", "a/b", "-x", "", "a\nb", "a\0b"[:1] + "/..", "x" * 300):
        done = run_as_alice("run", f"--name={name}", "--rootfs", "rootfs", *PROGRAMS, "--", "true")
        assert done.returncode == 125, name
        assert done.stderr.startswith("sublet: "), done.stderr


def test_where_the_interpreter_looks_is_nobodys_choice(run: Sublet) -> None:
    """The reporter runs outside, as the caller: with nothing of the working directory's."""
    folder = run.user.mkdir("evil")
    for name in ("json", "sublet", "sitecustomize", "usercustomize", "struct"):
        run.user.write(f"evil/{name}.py", "open('ran', 'w')\n")
    odd = {"PYTHONSTARTUP": "sublet.py", "PYTHONHOME": ".", "PYTHONPATH": ".", "PYTHONINSPECT": "1"}
    plain = run.user.run(
        ["python3", "-c", "import json"], cwd=folder, env={"PYTHONPATH": str(folder)}
    )
    assert (folder / "ran").exists(), ("the control", plain)
    (folder / "ran").unlink()
    done = run("run", "--report", "r.json", "--", "/missing", cwd=folder, env=odd)
    assert done.returncode == 127, done.stderr
    assert not (folder / "ran").exists()
    assert (folder / "r.json").exists()


# ---------------------------------------------------------------- where a report goes


def test_a_report_follows_nobody(run: Sublet) -> None:
    """The command could put links or a FIFO where its report will be written."""
    user = run.user
    shared = user.mkdir("shared")
    victim = user.write("victim", "mine\n")
    for planted in (f"ln -s {victim} r", f"ln {victim} r", "mkfifo r", "ln -s missing/x r"):
        script = f"cd {shared}; {planted}; true"
        words = ("--rw", str(shared), "--rw", str(user.home))
        done = run("run", "--report", f"{shared}/r", *words, "--", "sh", "-c", script, timeout=20)
        assert done.returncode in {0, 125}, done.stderr
        assert victim.read_text() == "mine\n", planted
        (shared / "r").unlink(missing_ok=True)
