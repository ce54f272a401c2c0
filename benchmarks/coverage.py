"""How often the 95 % intervals hold the truth over made-up suites: python benchmarks/coverage.py SUITES CLUSTERS."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from stats.made_up import coverage

if __name__ == "__main__":
    suites = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    clusters = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    for skewed in (True, False):
        found = coverage(suites=suites, clusters=clusters, skewed=skewed)
        print(f"{suites} suites of {clusters} sources, {'skewed' if skewed else 'nearly Gaussian'} values")
        for name, share in {**found.held, "difference of two models": found.difference}.items():
            print(f"  {name:<26} {share:6.1%}")
        print(f"  {'no number in a category':<26} {found.unsaid:6.1%}")
        print(f"  {'false claims':<26} {found.false_claims:6.1%}")
