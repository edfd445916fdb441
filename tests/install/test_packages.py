"""The package as people get it: sdist, wheel, editable; what is inside, and whether it starts."""

from __future__ import annotations

import os
import runpy
import shutil
import stat
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.installed import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Mapping

# One worker for all, so that the package is built once.
pytestmark = [pytest.mark.requires("compiler"), pytest.mark.xdist_group("install")]

PIP = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
VERSION = runpy.run_path(str(CHECKOUT / "src" / "sublet" / "_version.py"))["__version__"]


def run(*command: str | Path, env: Mapping[str, str] | None = None, cwd: Path = CHECKOUT) -> str:
    """Run a command that must succeed; return its output. A failure shows all that it said."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def only(folder: Path, pattern: str) -> Path:
    """Return the one file of *folder* that matches."""
    (found,) = folder.glob(pattern)
    return found


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source distribution of the checkout."""
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder)
    return only(folder, "*.tar.gz")


@pytest.fixture(scope="module")
def sources(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    folder = tmp_path_factory.mktemp("sources")
    run("tar", "-xf", sdist, "-C", folder)  # tarfile has its filters since 3.11.4 only
    return only(folder, "sublet-*")


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the source distribution, without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    run(*PIP, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", folder, sdist)
    return only(folder, "*.whl")


def install(package: Path, folder: Path) -> Path:
    """Install a wheel into a fresh virtual environment below *folder*; return its bin/."""
    venv = folder / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv)
    run(*PIP, "--python", venv / "bin" / "python", "install", "--no-deps", "--no-index", package)
    return venv / "bin"


def check_starts(command: Path) -> None:
    """Start an installed command, in an environment that cannot lead it back to the checkout."""
    assert run(command, "--version", cwd=Path("/"), env={"PATH": "/usr/bin:/bin"}).strip() == (
        f"sublet {VERSION}"
    )


def elf_interpreter(image: bytes) -> bool:
    """Tell whether a 64-bit little-endian ELF program asks for a dynamic loader."""
    start = int.from_bytes(image[0x20:0x28], "little")
    size = int.from_bytes(image[0x36:0x38], "little")
    count = int.from_bytes(image[0x38:0x3A], "little")
    headers = [image[start + index * size :][:4] for index in range(count)]
    return (3).to_bytes(4, "little") in headers


def test_the_sdist_carries_what_builds_it(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"csrc/build.py", "csrc/main.c", "csrc/wire.h", "hatch_build.py", "scripts/sublet"}
    assert needed <= names
    assert {"LICENSE", "README.md", "spec/wire.toml", "tests/conftest.py"} <= names
    assert not {name for name in names if name.endswith(("sublet-exec", ".pyc"))}


def test_the_wheel_carries_a_static_executor(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        member = archive.getinfo("sublet/sublet-exec")
        image = archive.read(member)
    assert (member.external_attr >> 16) & 0o777 == 0o755
    assert image.startswith(b"\x7fELF\x02\x01")
    assert not elf_interpreter(image)
    assert "sublet/py.typed" in names
    assert not [name for name in names if name.endswith(("entry_points.txt", ".c", ".pyc"))]


def test_the_wheel_carries_manual_and_completion(wheel: Path, tmp_path: Path) -> None:
    share = install(wheel, tmp_path).parent / "share"
    assert (share / "man/man1/sublet-run.1").read_text().startswith('.\\" ')
    assert "complete " in (share / "bash-completion/completions/sublet").read_text()
    assert "complete " in (share / "fish/vendor_completions.d/sublet.fish").read_text()


def test_the_check_for_static_programs_can_fail() -> None:
    assert elf_interpreter(Path(os.path.realpath(sys.executable)).read_bytes())


def test_the_wheels_tag_names_the_platform_alone(wheel: Path) -> None:
    python, abi, platform = wheel.name.removesuffix(".whl").split("-")[2:]
    machine = sysconfig.get_platform().removeprefix("linux-")
    assert (python, abi) == ("py3", "none")
    assert all(tag.endswith(f"_{machine}") for tag in platform.split("."))
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"sublet-{VERSION}.dist-info/WHEEL").decode()
    assert "Root-Is-Purelib: false" in text
    assert {line.removeprefix("Tag: ") for line in text.splitlines() if line[:4] == "Tag:"} == {
        f"py3-none-{tag}" for tag in platform.split(".")
    }


def test_an_installed_wheel_starts(wheel: Path, tmp_path: Path) -> None:
    programs = install(wheel, tmp_path)
    first, *rest = (programs / "sublet").read_text().splitlines()
    assert first == f"#!{programs / 'python'}"
    assert "import re" not in rest
    check_starts(programs / "sublet")


def test_the_installed_executor_can_be_executed(wheel: Path, tmp_path: Path) -> None:
    install(wheel, tmp_path)
    executor = only(tmp_path, "venv/lib/python3*/site-packages/sublet/sublet-exec")
    assert stat.S_IMODE(executor.stat().st_mode) & 0o111 == 0o111


def test_an_editable_install_starts(sources: Path, tmp_path: Path) -> None:
    build = "import sys; from hatchling.build import build_editable; build_editable(sys.argv[1])"
    run(sys.executable, "-c", build, tmp_path, cwd=sources)
    programs = install(only(tmp_path, "*.whl"), tmp_path)
    assert os.access(sources / "src" / "sublet" / "sublet-exec", os.X_OK)
    check_starts(programs / "sublet")


def test_without_a_static_c_library_the_build_says_what_to_install(
    sources: Path, tmp_path: Path
) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\necho "cannot find -lc" >&2\nexit 1\n')
    compiler.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "csrc/build.py", "-o", str(tmp_path / "out")],
        cwd=sources,
        env={"PATH": str(tmp_path), "PYTHONNOUSERSITE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "finds no C headers" in done.stderr
    assert "apt-get install gcc libc6-dev" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.network
def test_without_a_c_compiler_the_index_has_one(sdist: Path, tmp_path: Path) -> None:
    """The build asks for ziglang, and makes the same static executor with it."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("env", "sh", "uname"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    env = {name: value for name, value in os.environ.items() if name != "CC"}
    env["PATH"] = str(programs)
    run(*PIP, "wheel", "--no-deps", "-w", tmp_path, sdist, env=env)
    wheel = only(tmp_path, "*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert not elf_interpreter(archive.read("sublet/sublet-exec"))
    check_starts(install(wheel, tmp_path) / "sublet")
