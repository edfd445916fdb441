"""Golden files: what the project writes, kept to be compared with; README.md tells how."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that accepts what is written now."""
    parser.addoption("--accept", action="store_true", help="rewrite the golden files of the tests")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with the golden file of that name, or with --accept rewrite the file."""
    accept = request.config.getoption("--accept", default=False)

    def compare(name: str, text: str) -> None:
        path = HERE / name
        expected = path.read_text() if path.exists() else ""
        if text == expected:
            return
        if accept:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            return
        lines = difflib.unified_diff(
            expected.splitlines(), text.splitlines(), f"tests/golden/{name}", "now", lineterm=""
        )
        pytest.fail("\n".join([*lines, "if that is right: pytest tests/golden --accept"]), False)

    return compare
