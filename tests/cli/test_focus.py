"""`--focus` and `--paste-back`: options of editors, in the card's name, the run's folder and the manifest."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import Cli

EDITOR = """
from refbench.adapters.editing import Options
from refbench.schema import AdapterCard


class Toy:
    card = AdapterCard(name="toy", summary="Returns the draft as it is.", licence="MIT", needs_reference=False)

    def __init__(self, *, focus=False, paste_back=False):
        options = Options(focus=focus, paste_back=paste_back)
        self.card = self.card.model_copy(update={"name": "toy" + options.suffix})

    def refine(self, inputs):
        return inputs.draft
"""


def test_they_reach_adapter_and_are_recorded(cli: Cli, here: Path, suite: Path) -> None:
    (here / "toy.py").write_text(EDITOR)
    arguments = ["generate", "--model", "toy.py", "--suite", suite, "--limit", 2, "--focus", "--paste-back", "--json"]
    done = cli(*arguments)
    assert done.code == 0, done.err
    run = Path(json.loads(done.out)["run"])
    assert run.name == "toy+limit-2+focus+paste-back"
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["card"]["name"] == "toy+focus+paste-back"
    assert manifest["arguments"]["options"] == {"focus": True, "paste_back": True}


def test_a_model_without_them_says_so(cli: Cli, suite: Path) -> None:
    done = cli("eval", "--model", "identity", "--suite", suite, "--limit", 2, "--focus")
    assert done.code == 2
    assert "'identity'" in done.sentence
    assert "'focus'" in done.sentence
