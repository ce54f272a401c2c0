"""What the script models share: the protocol, options, focus and paste-back, the authors' checkout, licences."""

from __future__ import annotations

import difflib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refbench.adapters.editing import Options, Work, finish, flag, prepare
from refbench.adapters.ready import fetch_command, hub_folder
from refbench.adapters.scripts.licences import accept, accepted
from refbench.errors import RefbenchError
from refbench.images import Image, load_image, load_mask, save_png

Editor = Callable[[Work], Any]
"""From one sample at the editor's size to a PIL image of any size."""
SHARED = {"focus": False, "paste_back": False, "size": 1024}
"""Options of every script; a script may change their defaults."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One request, as :class:`refbench.schema.Inputs` without pydantic."""

    id: str
    draft: Image
    reference: Image
    mask: Any
    prompt: str
    reference_box: Any
    seed: int


def read_options(given: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Options over their defaults, each as the type of its default.

    Raises:
        RefbenchError: an unknown one (with near names), or a value of the wrong type.
    """
    found = dict(known)
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=2, cutoff=0.75)
            hint = f"did you mean {' or '.join(near)}" if near else f"it takes {', '.join(sorted(known))}"
            raise RefbenchError(f"Expected an option of this model, but it has no '{name}'; {hint}.")
        default = known[name]
        try:
            if isinstance(default, bool):
                found[name] = flag(value, name)
            else:
                found[name] = value if default is None else type(default)(value)
        except (TypeError, ValueError):
            raise RefbenchError(
                f"Expected the option {name} to be like {default!r}, but it is '{value}'; correct it."
            ) from None
    return found


def checkout(needs: Mapping[str, Any], options: Mapping[str, Any]) -> Path:
    """The authors' checkout, first on the path and the working folder from now on.

    Raises:
        RefbenchError: none was named, nothing is there, or it is another repository.
    """
    wanted = needs["checkout"]
    named = options.get("checkout") or os.environ.get(wanted["variable"])
    get = f"`git clone {wanted['repository']}` and name the folder with -o checkout=./FOLDER or {wanted['variable']}"
    if not named:
        raise RefbenchError(f"Expected the authors' checkout of {wanted['repository']}, but none was named; {get}.")
    folder = Path(str(named)).expanduser().resolve()
    if not folder.is_dir():
        raise RefbenchError(
            f"Expected the authors' checkout of {wanted['repository']} at {folder}, but there is no folder; {get}."
        )
    lacking = [file for file in wanted["files"] if not (folder / file).is_file()]
    if lacking:
        raise RefbenchError(
            f"Expected a checkout of {wanted['repository']} at {folder}, but it has no {lacking[0]}; {get}."
        )
    sys.path.insert(0, str(folder))
    os.chdir(folder)
    return folder


def check_licence(card: Mapping[str, Any], needs: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Let only those go on who have accepted the licence, now (`accept_licence`) or once before.

    Raises:
        RefbenchError: not accepted; says what it demands and how to accept it.
    """
    licence = needs.get("accept")
    if licence is None:
        sys.stderr.write(f"{card['name']}: licence {card['licence']}\n")
        return
    given = options.get("accept_licence")
    if given == licence:
        accept(str(card["name"]), licence, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    elif given is not None or not accepted(str(card["name"]), licence):
        raise RefbenchError(
            f"Expected you to accept the licence of {card['name']} before its first use: {licence}. {needs['terms']} "
            f"Accept it once with -o accept_licence={licence}."
        )


def weights(model: str, file: str, *fetch: str) -> str:
    """The folder of weights given as a folder or hub id, with `file` in it.

    Raises:
        RefbenchError: not there; says what fetches them.
    """
    folder = Path(model).expanduser()
    found = folder if (folder / file).is_file() else hub_folder(model, file)
    if found is None:
        raise RefbenchError(
            f"Expected the weights '{model}' with {file}, but they are not here; fetch them with "
            f"`{fetch_command(model, *fetch)}`, or name a local folder."
        )
    return str(found)


def dtype_on(device: str) -> Any:
    """bfloat16 on a GPU, float32 on a processor."""
    import torch

    return torch.float32 if device.startswith("cpu") else torch.bfloat16


def generator(seed: int, device: str = "cpu") -> Any:
    """A torch generator with a seed."""
    import torch

    return torch.Generator(device).manual_seed(seed)


def serve(
    card: dict[str, Any],
    needs: Mapping[str, Any],
    load: Callable[[str, dict[str, Any]], Editor],
    defaults: Mapping[str, Any],
    *,
    multiple: int = 16,
) -> None:
    """Speak refbench's protocol on standard input and output until told to close.

    Args:
        card: fields of the card; focus and paste-back are added to its name.
        needs: what the script needs, see :mod:`refbench.adapters.scripts`.
        load: from device and options to the editor.
        defaults: the script's options.
        multiple: of both sides of the editor's size.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")  # standard output is for answers; prints go to stderr
    os.dup2(2, 1)

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    known = {**SHARED, "checkout": None, "accept_licence": None, **defaults}
    if "checkout" not in needs:
        del known["checkout"]
    if "accept" not in needs:
        del known["accept_licence"]
    editor: Editor | None = None
    editing = Options()
    for line in sys.stdin:
        request = json.loads(line)
        if request["type"] == "hello":
            try:
                options = read_options(request["options"], known)
                shared = {name: options[name] for name in SHARED}
                editing = Options(**shared, multiple=multiple)
                check_licence(card, needs, options)
                editor = load(request["device"], options)
                told = {"name": card["name"] + editing.suffix, "summary": editing.on_card(card["summary"])}
                answer({"type": "ready", "card": {**card, **told}})
            except Exception as error:
                answer({"type": "ready", "error": sentence(error)})
        elif request["type"] == "refine":
            assert editor is not None
            try:
                one(editor, request, editing)
                answer({"type": "result", "id": request["id"], "ok": True, "facts": {}})
            except Exception as error:
                answer({"type": "result", "id": request["id"], "ok": False, "error": sentence(error)})
        elif request["type"] == "close":
            break


def one(editor: Editor, request: Mapping[str, Any], editing: Options) -> None:
    """Refine one sample: read its pictures, bring it to the editor's size and back, write the answer."""
    sample = Sample(
        request["id"], load_image(request["draft"]), load_image(request["reference"]), load_mask(request["mask"]),
        request["prompt"], request["reference_box"] and tuple(request["reference_box"]), request["seed"],
    )  # fmt: skip
    work = prepare(sample, editing)  # type: ignore[arg-type]
    found = np.asarray(editor(work).convert("RGB"))
    save_png(request["output"], finish(work, found, editing))


def sentence(error: BaseException) -> str:
    """An error in one sentence; out of memory with what helps."""
    text = str(error)
    if "out of memory" in text.lower() or isinstance(error, MemoryError):
        return f"Expected enough memory, but it ran out ({text[:120]}); try a smaller -o size, or offload where it can."
    return text if isinstance(error, RefbenchError) else f"{type(error).__name__}: {text}"
