"""A copy of the package that every user can read and run, wherever the checkout lies.

The checkout may be below /root, and so may the interpreter that runs the tests. So the package and
its dependencies are copied to a world-readable place once in a test run, with a launcher for the
first interpreter that an ordinary user can execute.
"""

from __future__ import annotations

import compileall
import fcntl
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from support import probes

CHECKOUT = Path(__file__).resolve().parents[2]
EXECUTOR = CHECKOUT / "src" / "sublet" / "sublet-exec"

# Names the test run's own place; set by the first process of a run, inherited by its workers.
PLACE = "SUBLET_TEST_DIR"
# An executor to test instead of the release build, e.g. one with sanitizers.
OTHER_EXECUTOR = "SUBLET_EXEC"

DEPENDENCIES = ("rich", "pygments", "markdown-it-py", "mdurl", "zstandard")

LAUNCHER = """\
#!{interpreter} -I
import sys

sys.path.insert(0, {library!r})

from sublet.cli import main

sys.exit(main(sys.argv[1:]))
"""


def searchable(folder: Path) -> bool:
    """Tell whether everybody can reach what lies in *folder*."""
    return all(step.stat().st_mode & 0o001 for step in (folder, *folder.parents))


def make_place() -> Path:
    """Make the run's own place, where every user may look."""
    candidates = [Path(tempfile.gettempdir()).resolve(), Path("/tmp"), Path("/var/tmp")]
    parent = next((folder for folder in candidates if searchable(folder)), candidates[0])
    place = Path(tempfile.mkdtemp(prefix="sublet-tests-", dir=parent))
    place.chmod(0o755)
    (place / "users").mkdir(mode=0o755)
    return place


def interpreter() -> str:
    """Return the first Python, 3.11 or newer, that a user without privileges can execute.

    Raises RuntimeError, naming what was tried.
    """
    places = ("/usr/local/bin", "/usr/bin")
    names = ("python3", *(f"python3.{minor}" for minor in range(11, 20)))
    candidates = [os.path.realpath(sys.executable)]
    candidates += [f"{place}/{name}" for place in places for name in names]
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    tried = [path for path in candidates if os.path.exists(path)]
    for path in tried:
        # By way of env: setpriv itself still has root's capabilities when it executes a program.
        if probes.succeeds("env", path, "-I", "-c", check, unprivileged=True) is None:
            return path
    raise RuntimeError(
        f"no Python 3.11 or newer that an ordinary user can execute; tried {', '.join(tried)}"
    )


def executor_is_stale() -> bool:
    """Tell whether the executor is older than a source of its own."""
    if not EXECUTOR.exists():
        return True
    csrc = CHECKOUT / "csrc"
    newest = max(path.stat().st_mtime for path in (*csrc.glob("*.[ch]"), csrc / "build.py"))
    return newest > EXECUTOR.stat().st_mtime


def copy_dependencies(library: Path) -> None:
    """Copy what Sublet depends on from this environment, as far as it is here."""
    for name in DEPENDENCIES:
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in found.files or ():
            source = Path(str(found.locate_file(file)))
            if ".." in file.parts or "__pycache__" in file.parts or not source.is_file():
                continue
            target = library.joinpath(*file.parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def make_copy(place: Path) -> None:
    """Copy package and dependencies to *place*/lib, and write the command *place*/bin/sublet."""
    if executor_is_stale():
        build = [sys.executable, str(CHECKOUT / "csrc" / "build.py")]
        subprocess.run(build, stdout=subprocess.DEVNULL, check=True)
    library = place / "lib"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(CHECKOUT / "src" / "sublet", library / "sublet", ignore=ignored)
    other = os.environ.get(OTHER_EXECUTOR)
    if other:
        shutil.copy(other, library / "sublet" / "sublet-exec")
    copy_dependencies(library)
    python = interpreter()
    if python == os.path.realpath(sys.executable):
        compileall.compile_dir(library, quiet=1)
    else:
        # Ordinary users cannot write bytecode here; without it each start would compile anew.
        subprocess.run([python, "-I", "-m", "compileall", "-q", str(library)], check=True)
    readable = ["chmod", "-R", "a+rX", str(library)]
    subprocess.run(readable, check=True)
    command = place / "bin" / "sublet"
    command.parent.mkdir(mode=0o755)
    command.write_text(LAUNCHER.format(interpreter=python, library=str(library)))
    command.chmod(0o755)


def installed(place: Path) -> Path:
    """Return the path of the installed command, made by whichever worker comes first."""
    command = place / "bin" / "sublet"
    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not command.exists():
            shutil.rmtree(place / "lib", ignore_errors=True)
            make_copy(place)
    return command
