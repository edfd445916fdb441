#!/usr/bin/env python3
"""Build the executor, `sublet-exec`, and its testing variants, from csrc/.

A script for the Makefile and a module for the package's build hook; it needs nothing but the
standard library and a C compiler. The compiler is, in this order: what ``$CC`` says; the first of
cc, gcc and clang that works; the one that the ``ziglang`` package carries.

The release executor is static, so that it runs inside any root file system, and not position
independent: a static program without relocations dirties the fewest pages. It links no C library:
csrc/runtime/ has the little that it needs, and starts without what a library does before main().
The testing variants link the system's library instead.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

CSRC = Path(__file__).resolve().parent
ROOT = CSRC.parent
RELEASE = ROOT / "src" / "sublet" / "sublet-exec"
BUILD = ROOT / "build"

VARIANTS = ("release", "asan", "fuzz", "test")

LANGUAGE = ["-std=gnu11", "-D_GNU_SOURCE", f"-I{CSRC}"]
WARNINGS = ["-Wall", "-Wextra"]
# Some distributions predefine _FORTIFY_SOURCE, whose checking functions a C library would have.
HARDENING = ["-fstack-protector-strong", "-U_FORTIFY_SOURCE"]
STATIC = ["-static", "-no-pie"]
# With the standard headers, but without the library behind them.
ALONE = ["-nostdlib", "-fno-builtin"]
RELEASE_FLAGS = [
    *("-O2", "-fno-pie", "-ffunction-sections", "-fdata-sections"),
    *HARDENING,
    *STATIC,
    *("-Wl,--gc-sections", "-Wl,-z,noexecstack", "-Wl,-z,relro", "-s"),
]
SANITIZE_FLAGS = ["-O1", "-g", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all"]

# LeakSanitizer traces the process at its end, which an undumpable one or a sandbox does not allow;
# and the executor allocates nothing that could leak.
SANITIZER_DEFAULTS = """\
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }
"""

PT_INTERP = 3
PROBE = "#include <sys/mount.h>\n#include <linux/capability.h>\nvoid _start(void) {}\n"


class BuildError(Exception):
    """The executor cannot be built; the message says why and what to do."""


def machine() -> str:
    """Name the processor that this interpreter is built for, as platform tags do ("x86_64").

    Not ``os.uname()``: under a 64-bit kernel a 32-bit interpreter must get a 32-bit tag.
    """
    return sysconfig.get_platform().partition("-")[2].replace("-", "_")


def works(compiler: list[str]) -> bool:
    """Tell whether *compiler* works and finds the system's headers, by linking an empty program."""
    with tempfile.TemporaryDirectory(prefix="sublet-cc-") as scratch:
        command = [*compiler, *STATIC, *ALONE, "-x", "c", "-", "-o", f"{scratch}/probe"]
        try:
            done = subprocess.run(command, input=PROBE, text=True, capture_output=True, check=False)
        except OSError:
            return False
        return done.returncode == 0


def zig() -> list[str] | None:
    """Return the command of the compiler inside the ``ziglang`` package, if that is installed."""
    if importlib.util.find_spec("ziglang") is None:
        return None
    # Zig switches UBSan's traps on by itself; the release build does not want them.
    target = f"{machine()}-linux-musl"
    return [sys.executable, "-m", "ziglang", "cc", "-target", target, "-fno-sanitize=undefined"]


def runtime(compiler: list[str]) -> list[str]:
    """Return the options and sources that stand in for a C library.

    Zig has no stack protector without one; its musl, which does little at start, is linked there.
    """
    if "ziglang" in compiler:
        return []
    return [*ALONE, *sorted(str(path) for path in (CSRC / "runtime").glob("*.c"))]


def installed_compilers() -> list[str]:
    """Return the full paths of the C compilers on PATH, in order of preference."""
    return [path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))]


def system_compiler() -> list[str] | None:
    """Return ``$CC``, or the first compiler on PATH that works, or None.

    Raises BuildError where ``$CC`` is set and cannot do it: what was asked for is not replaced.
    """
    asked = shlex.split(os.environ.get("CC", ""))
    if asked:
        if shutil.which(asked[0]) is None:
            raise BuildError(f"CC={shlex.join(asked)}: no such compiler on PATH")
        if not works(asked):
            raise BuildError(
                f"CC={shlex.join(asked)} does not compile an empty program; {remedy()}"
            )
        return asked
    for path in installed_compilers():
        if works([path]):
            return [path]
    return None


def remedy() -> str:
    """Say how a machine gets a compiler with the headers of a C library and of the kernel."""
    return (
        "install gcc and the system's headers (Debian and Ubuntu: apt-get install gcc libc6-dev; "
        "Fedora: dnf install gcc glibc-devel; Alpine: apk add gcc musl-dev linux-headers), "
        "or let pip fetch a compiler: pip install ziglang"
    )


def find_compiler() -> list[str]:
    """Return the command of a compiler that can link the executor.

    Raises BuildError, with the reason and the remedy, where there is none.
    """
    found = system_compiler() or zig()
    if found:
        return found
    present = installed_compilers()
    if present:
        raise BuildError(f"{present[0]} is here but finds no C headers; {remedy()}")
    raise BuildError(f"no C compiler: neither cc, gcc nor clang is on PATH; {remedy()}")


def sources(*, main: bool = True) -> list[str]:
    """Return the executor's C sources; without *main*, all but the file that defines main().

    Those of csrc/runtime/ are not among them.
    """
    found = sorted(path for path in CSRC.glob("*.c") if main or path.name != "main.c")
    if not found:
        raise BuildError(f"no C sources in {CSRC}")
    return [str(path) for path in found]


def compile_and_link(command: list[str], output: Path) -> None:
    """Run a compiler that writes *output*; the file appears complete or not at all."""
    output.parent.mkdir(parents=True, exist_ok=True)
    half_made = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        done = subprocess.run([*command, "-o", str(half_made)], check=False)
        if done.returncode != 0:
            raise BuildError(f"{output.name}: the compiler failed: {shlex.join(command)}")
        half_made.replace(output)
    finally:
        half_made.unlink(missing_ok=True)


def is_static(path: Path) -> bool:
    """Tell whether the ELF program at *path* needs no dynamic loader (it has no PT_INTERP)."""
    image = path.read_bytes()
    wide = image[4] == 2
    order = "little" if image[5] == 1 else "big"

    def number(offset: int, size: int) -> int:
        return int.from_bytes(image[offset : offset + size], order)  # type: ignore[arg-type]

    table = number(0x20, 8) if wide else number(0x1C, 4)
    sizes = 0x36 if wide else 0x2A
    entry, count = number(sizes, 2), number(sizes + 2, 2)
    return all(number(table + index * entry, 4) != PT_INTERP for index in range(count))


def warnings(compiler: list[str], *, werror: bool) -> list[str]:
    """Return the warning options for *compiler*, as errors where that is wanted."""
    options = [*WARNINGS, *(["-Werror"] if werror else [])]
    # Clang warns that it does not use the -no-pie that gcc needs; gcc does not know this option.
    version = subprocess.run([*compiler, "--version"], capture_output=True, check=False).stdout
    return [*options, "-Wno-unused-command-line-argument"] if b"clang" in version else options


def build_release(output: Path = RELEASE, *, werror: bool = False) -> Path:
    """Build the static executor at *output*, and check that it is static indeed."""
    compiler = find_compiler()
    command = [*compiler, *LANGUAGE, *warnings(compiler, werror=werror)]
    compile_and_link([*command, *RELEASE_FLAGS, *sources(), *runtime(compiler)], output)
    if not is_static(output):
        output.unlink()
        raise BuildError(f"{output}: the compiler made a dynamic program in spite of -static")
    return output


def testing_command(*names: str) -> list[str]:
    """Return how ``$CC``, or the first compiler of *names* on PATH, is started for a test's build.

    Raises BuildError where there is none.
    """
    asked = shlex.split(os.environ.get("CC", ""))
    compiler = asked or [path for name in names if (path := shutil.which(name))][:1]
    if not compiler:
        raise BuildError(f"this variant needs {' or '.join(names)}; apt-get install {names[0]}")
    return [*compiler, *LANGUAGE, *warnings(compiler, werror=True)]


def build_asan(output: Path) -> Path:
    """Build the executor with AddressSanitizer and UBSan; dynamic, as they have to be."""
    command = testing_command("gcc", "clang")
    flags = [*SANITIZE_FLAGS, "-fsanitize=address,undefined"]
    defaults = output.with_name("defaults.c")
    output.parent.mkdir(parents=True, exist_ok=True)
    defaults.write_text(SANITIZER_DEFAULTS)
    compile_and_link([*command, *flags, *sources(), str(defaults)], output)
    return output


def build_fuzzers(folder: Path) -> list[Path]:
    """Build one libFuzzer program for each file of csrc/fuzz/."""
    targets = sorted((CSRC / "fuzz").glob("*.c"))
    if not targets:
        raise BuildError(f"no fuzz targets in {CSRC / 'fuzz'}")
    command = [*testing_command("clang"), *SANITIZE_FLAGS, "-fsanitize=fuzzer,address,undefined"]
    built = []
    for target in targets:
        output = folder / target.stem
        compile_and_link([*command, *sources(main=False), str(target)], output)
        built.append(output)
    return built


def build_tests(output: Path) -> Path:
    """Build the C unit tests: csrc/tests/*.c with every source but main.c, in one program."""
    tests = sorted(str(path) for path in (CSRC / "tests").glob("*.c"))
    if not tests:
        raise BuildError(f"no C unit tests in {CSRC / 'tests'}")
    command = testing_command("gcc", "clang")
    flags = [*SANITIZE_FLAGS, "-fsanitize=address,undefined"]
    compile_and_link([*command, *flags, *sources(main=False), *tests], output)
    return output


def main(argv: list[str]) -> int:
    """Build the variant that the command line names; print the path of each program made."""
    parser = argparse.ArgumentParser(description="build the executor")
    parser.add_argument("--variant", choices=VARIANTS, default="release")
    parser.add_argument("--werror", action="store_true", help="make warnings errors (release)")
    parser.add_argument("-o", "--output", type=Path, help="the program, or the fuzzers' folder")
    options = parser.parse_args(argv)
    try:
        if options.variant == "release":
            made = [build_release(options.output or RELEASE, werror=options.werror)]
        elif options.variant == "asan":
            made = [build_asan(options.output or BUILD / "asan" / "sublet-exec")]
        elif options.variant == "fuzz":
            made = build_fuzzers(options.output or BUILD / "fuzz")
        else:
            made = [build_tests(options.output or BUILD / "test" / "sublet-exec-tests")]
    except BuildError as error:
        print(f"csrc/build.py: {error}", file=sys.stderr)
        return 1
    for path in made:
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
