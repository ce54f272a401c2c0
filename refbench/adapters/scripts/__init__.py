"""Models that are scripts in an environment of their own: those whose pins clash with everybody else's.

Each script has a PEP 723 header with the authors' pins, a literal ``CARD``, and a literal ``NEEDS``, from which
`refbench list models` tells what is missing without running it:

- ``weights``: {hub id: a file in it};
- ``checkout``: {"repository": url, "variable": environment variable, "files": files that prove it is that one};
- ``accept``: the name of a licence that must be accepted once, and ``terms``: what it demands, in a sentence.

What they share is in :mod:`refbench.adapters.scripts.driver`, which needs numpy, Pillow and OpenCV of their
environment and nothing else.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent

REFINE_ANYTHING = _HERE / "refine_anything_script.py"
OMNIGEN2 = _HERE / "omnigen2_script.py"
BAGEL = _HERE / "bagel_script.py"
DREAMO = _HERE / "dreamo_script.py"
MOSAIC = _HERE / "mosaic_script.py"
IMAGECRITIC = _HERE / "imagecritic_script.py"
HIFI_INPAINT = _HERE / "hifi_inpaint_script.py"
ADAREFSR = _HERE / "adarefsr_script.py"
