"""OpenCV, imported when it is first used.

Its type stubs refuse much that its functions accept (``None`` for an output, lists of arrays), so it is ``Any`` here.
"""

from __future__ import annotations

import importlib
from typing import Any


class _Lazy:
    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("cv2"), name)


cv2: Any = _Lazy()
