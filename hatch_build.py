"""The package's build hook: compile the static executor into the wheel, and name its platform."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

if TYPE_CHECKING:
    from types import ModuleType

# A static program asks nothing of the machine's C library: one wheel serves glibc and musl.
# (Installers accept these tags on the processors that the manylinux and musllinux standards name.)
PORTABLE = ("x86_64", "aarch64")
PORTABLE_TAG = "manylinux_2_17_{0}.manylinux2014_{0}.musllinux_1_1_{0}"


def load_driver(root: str) -> ModuleType:
    """Import csrc/build.py, which is a script beside the C sources and not in any package."""
    spec = importlib.util.spec_from_file_location("sublet_csrc_build", Path(root, "csrc/build.py"))
    if spec is None or spec.loader is None:
        raise ImportError("csrc/build.py cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class CustomBuildHook(BuildHookInterface[Any]):
    """Builds `sublet-exec` for wheels, standard and editable."""

    def dependencies(self) -> list[str]:
        """Ask for a compiler from the package index only where the machine has none that serves."""
        return [] if load_driver(self.root).system_compiler() else ["ziglang"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and tag the wheel: any Python 3, no ABI, this platform."""
        del version  # standard and editable wheels carry the same program
        driver = load_driver(self.root)
        driver.build_release()
        machine = driver.machine()
        platform = PORTABLE_TAG.format(machine) if machine in PORTABLE else f"linux_{machine}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        build_data["artifacts"].append("src/sublet/sublet-exec")
