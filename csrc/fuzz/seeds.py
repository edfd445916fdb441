#!/usr/bin/env python3
"""Write real plans as seeds for the fuzzer of the executor's decoder.

    csrc/fuzz/seeds.py      encode every tests/golden/plan/*.json into csrc/fuzz/corpus/NAME.plan

A mutated plan that was once valid reaches much further into the decoder than random bytes do.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "csrc" / "fuzz" / "corpus"

sys.path.insert(0, str(ROOT / "src"))  # so that it runs before anything is installed

from sublet.plan.codec import encode  # noqa: E402 - the line above is what finds it
from sublet.plan.jsonform import from_json  # noqa: E402


def main() -> int:
    """Write the seeds, and remove those whose plan is gone."""
    plans = {path.stem: path.read_text() for path in (ROOT / "tests/golden/plan").glob("*.json")}
    CORPUS.mkdir(parents=True, exist_ok=True)
    for seed in CORPUS.glob("*.plan"):
        if seed.stem not in plans:
            seed.unlink()
    for name, text in plans.items():
        (CORPUS / f"{name}.plan").write_bytes(encode(from_json(text)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
