"""``python -m refbench``: the same as the ``refbench`` command."""

from __future__ import annotations

import sys

from refbench.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
