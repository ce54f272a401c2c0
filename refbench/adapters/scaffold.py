"""Write the skeleton of a new adapter that works as it stands: a class, or a script with its own environment."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from refbench.errors import RefbenchError
from refbench.images import write_atomic

_CLASS = '''"""Adapter `@NAME@`: one sentence about the model. Try it with: refbench check-adapter @FILE@"""

from __future__ import annotations

import numpy as np
from PIL import Image

from refbench.schema import AdapterCard, Inputs


class @CLASS@:
    card = AdapterCard(
        name="@NAME@",
        summary="Skeleton: pastes the reference, at half strength, into the mask. Say here how the model works.",
        licence="Apache-2.0",  # of the weights, if they have one of their own
        paper=None,  # a link
        weights=None,  # e.g. a hub id with its revision
        needs_network=False,
        needs_reference=True,
        deterministic=True,  # equal inputs and seed give the identical image
        requires=("PIL",),  # modules that must be importable
    )

    def __init__(self, *, device: str = "cpu", strength: float = 0.5) -> None:
        """Keyword arguments are the model's options; load nothing heavy here."""
        self.device = device
        self.strength = strength

    def setup(self) -> None:
        """Load weights here. Called once, before the first sample."""

    def refine(self, inputs: Inputs) -> np.ndarray:
        """Return one image of the draft's size: uint8 (H, W, 3), floats in [0, 1], a PIL image or a torch tensor.

        inputs.draft          (H, W, 3) uint8, wrong inside the mask
        inputs.reference      (h, w, 3) uint8, the same thing shown right, of another size
        inputs.mask           (H, W) bool, true where the detail is to be put right
        inputs.prompt         an instruction in English
        inputs.reference_box  (x, y, width, height) of the detail in the reference, or None
        inputs.seed           use it for every random choice
        """
        rows, columns = np.flatnonzero(inputs.mask.any(1)), np.flatnonzero(inputs.mask.any(0))
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        x, y, width, height = inputs.reference_box or (0, 0, inputs.reference.shape[1], inputs.reference.shape[0])
        detail = Image.fromarray(inputs.reference[y : y + height, x : x + width]).resize((right - left, bottom - top))
        out = inputs.draft.astype(np.float32)
        box = out[top:bottom, left:right]
        inside = inputs.mask[top:bottom, left:right]
        box[inside] += self.strength * (np.asarray(detail, np.float32)[inside] - box[inside])
        return np.rint(out).astype(np.uint8)

    # def refine_batch(self, batch: list[Inputs]) -> list[np.ndarray]:
    #     """Optional: several samples at once, answers in the same order."""

    def close(self) -> None:
        """Give back what setup() took. Called once, at the end."""
'''

_SCRIPT = '''# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6", "pillow==13.0.0"]
# ///
"""Adapter `@NAME@`, in an environment of its own. Try it with: refbench check-adapter @FILE@

Pin what the model needs in the header above: `uv run --script` installs it apart from refbench. The script reads
one JSON object a line from stdin and answers with one a line on stdout (docs/adapters.md has the protocol);
anything else that is printed is ignored, and errors on stderr end up in the message a user sees.
"""

import json
import os
import sys

CARD = {
    "name": "@NAME@",
    "summary": "Skeleton: pastes the reference, at half strength, into the mask. Say here how the model works.",
    "licence": "Apache-2.0",  # of the weights, if they have one of their own
    "paper": None,  # a link
    "weights": None,  # e.g. a hub id with its revision
    "needs_network": False,
    "needs_reference": True,
    "deterministic": True,  # equal inputs and seed give the identical image
}


def load(device, options):
    """Load the model once; what is returned is handed to refine()."""
    return {"device": device, "strength": float(options.get("strength", 0.5))}


def refine(model, request):
    """Return one PIL image of the draft's size."""
    import numpy as np
    from PIL import Image

    draft, reference = Image.open(request["draft"]), Image.open(request["reference"])  # RGB
    mask = np.asarray(Image.open(request["mask"]).convert("L")) > 127  # true where the detail is to be put right
    # request["prompt"]: an instruction in English;  request["seed"]: use it for every random choice
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    x, y, width, height = request["reference_box"] or (0, 0, *reference.size)
    detail = reference.crop((x, y, x + width, y + height)).resize((right - left, bottom - top))
    out = np.array(draft, np.float32)
    box = out[top:bottom, left:right]
    inside = mask[top:bottom, left:right]
    box[inside] += model["strength"] * (np.asarray(detail, np.float32)[inside] - box[inside])
    return Image.fromarray(np.rint(out).astype(np.uint8))


def main():
    """The protocol; nothing here needs to change."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")  # keep stdout for answers, and send prints to stderr
    os.dup2(2, 1)

    def answer(message):
        answers.write(json.dumps(message) + "\\n")
        answers.flush()

    model = None
    for line in sys.stdin:
        request = json.loads(line)
        if request["type"] == "hello":
            model = load(request["device"], request["options"])
            answer({"type": "ready", "card": CARD})
        elif request["type"] == "refine":
            try:
                refine(model, request).save(request["output"])
                answer({"type": "result", "id": request["id"], "ok": True, "facts": {}})
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
                answer({"type": "result", "id": request["id"], "ok": False, "error": why})
        elif request["type"] == "close":
            break


if __name__ == "__main__":
    main()
'''


def new_adapter(name: str, kind: Literal["class", "script"] = "class", out: Path | None = None) -> Path:
    """Write a working skeleton and return its path.

    Args:
        name: as on the board: lower-case letters, digits and dashes, e.g. "my-refiner".
        kind: "class" runs in refbench's environment, "script" in one of its own.
        out: a file ending in .py, or a folder (made if missing); None is the current folder.

    Raises:
        RefbenchError: a name or kind that will not do, the file exists already, or the folder cannot be written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*([-.][a-z0-9]+)*", name) or len(name) > 60:
        raise RefbenchError(
            f"Expected a name of lower-case letters, digits and single dashes, such as my-refiner, but it is '{name}'."
        )
    if kind not in ("class", "script"):
        raise RefbenchError(f"Expected the kind 'class' or 'script', but it is '{kind}'.")
    file = f"{re.sub('[-.]', '_', name)}.py"
    path = Path(file) if out is None else out if out.suffix == ".py" else out / file
    if path.exists():
        raise RefbenchError(f"Expected to write a new file, but {path} exists already; choose another name or --out.")
    text = _CLASS if kind == "class" else _SCRIPT
    class_name = "".join(part.capitalize() for part in re.split("[-.]", name))
    text = text.replace("@NAME@", name).replace("@CLASS@", class_name).replace("@FILE@", path.name)
    write_atomic(path, text.encode())
    return path
