"""Make ``refbench`` importable for a script in another environment, without letting this one's packages in.

Importing it also takes the folder of the scripts off the path, so that `import bagel` never finds one of them.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[2]
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]
if "refbench" not in sys.modules:
    _spec = importlib.util.spec_from_file_location(
        "refbench", _PACKAGE / "__init__.py", submodule_search_locations=[str(_PACKAGE)]
    )
    assert _spec is not None
    assert _spec.loader is not None
    _module = importlib.util.module_from_spec(_spec)
    sys.modules["refbench"] = _module
    _spec.loader.exec_module(_module)
