"""The public names: all there, from where they are said to be, and free until they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import sublet


@pytest.mark.parametrize("name", sublet.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(sublet, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        sublet.nonsense  # noqa: B018


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import sublet; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"sublet", "sublet._version", "__future__"}
