"""Verify mutated entries in every member and archive kind, and count what became of them.

python benchmarks/fuzz_verify.py [entries] [seed]; exit code 1 where one raised, took long, or passed with other claims.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]

from tests.leaderboard.conftest import make_world  # noqa: E402
from tests.leaderboard.test_fuzz import fuzz  # noqa: E402


def main() -> int:
    count, seed = (int(value) for value in (sys.argv[1:] + ["1000", "1"][len(sys.argv) - 1 :])[:2])
    with tempfile.TemporaryDirectory() as place:
        found = fuzz(make_world(Path(place)), Path(place) / "mutants", count, seed)
    print(json.dumps(found, indent=1))
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
