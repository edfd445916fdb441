"""Small files of settings: lines ``key=value``, for people to read and for crashes to spare."""

from __future__ import annotations

import os


def write(path: str, values: dict[str, str]) -> None:
    """Write the file anew, complete at once. Line breaks and backslashes in values are escaped."""
    partial = f"{path}.new"
    with open(partial, "w", encoding="utf-8", errors="surrogateescape") as file:
        for key, value in values.items():
            escaped = value.replace("\\", "\\\\").replace("\n", "\\n")
            file.write(f"{key}={escaped}\n")
    os.rename(partial, path)


def read(path: str) -> dict[str, str] | None:
    """Return the settings of the file, None where there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            text = file.read(1 << 20)
    except (FileNotFoundError, NotADirectoryError):
        return None
    pairs = (line.split("=", 1) for line in text.split("\n") if "=" in line)
    return {key: _plain(value) for key, value in pairs}


def _plain(value: str) -> str:
    pieces = value.split("\\\\")
    return "\\".join(piece.replace("\\n", "\n") for piece in pieces)
