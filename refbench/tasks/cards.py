"""Dataset cards: what a task holds, how to read it, and licence, source and author of every sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from refbench.schema import SampleMeta
from refbench.tasks.writing import Question

_READ = """```python
import refbench
suite = refbench.load_suite("{suite}").select(tasks=["{task}"])
for sample in suite:                      # .id .draft .reference .mask .prompt .reference_box .meta
    target = suite.target(sample)         # for those who measure

from datasets import load_dataset         # the same data, as rows with pictures
rows = load_dataset("parquet", data_files="{path}", split="train")
```

`draft_patch` is the draft inside `draft_box` (x, y, width, height), lossless and black where the mask is black.
The whole draft is the target with the patch's pixels wherever the mask is white:

```python
import numpy as np
row = rows[0]
draft, mask = np.array(row["target"]), np.array(row["mask"]).astype(bool)
x, y, w, h = row["draft_box"]
inside = mask[y:y+h, x:x+w]
draft[y:y+h, x:x+w][inside] = np.array(row["draft_patch"])[inside]
```
"""

_INTRO = {
    "text": "Printed words whose letters are wrong in the draft.",
    "logo": "Logos and emblems that are wrong in the draft.",
    "pattern": "Textile, wall and product patterns that are wrong in the draft.",
    "object": "Objects whose detail is wrong in the draft; reference and target are two real views.",
    "face": "Faces whose detail is wrong in the draft; reference and target are two real views.",
}


_OWN = """```python
import refbench
suite = refbench.load_suite("{folder}")
for sample in suite:                      # .id .draft .reference .mask .prompt .reference_box .meta
    ...

from datasets import load_dataset         # the same data, as rows with pictures
rows = load_dataset("parquet", data_files="{folder}/data/*.parquet", split="train")
```

"""
_WITH_TARGETS = """`draft_patch` is the draft inside `draft_box` (x, y, width, height), lossless and black where the
mask is black; the whole draft is the target with the patch's pixels wherever the mask is white. Outside the mask the
target is the draft."""
_WITHOUT_TARGETS = """`draft_patch` is the whole draft. There are **no targets**, so texture and score are not measured,
and numbers of this suite compare with no suite that has targets."""


def suite_card(folder: str, metas: Sequence[SampleMeta], targets: bool) -> str:
    """The README.md of an imported suite, with YAML front matter for the hub."""
    tasks = Counter(meta.task for meta in metas)
    licences = Counter(meta.licence for meta in metas)
    lines = [
        "---", "license: other", "license_name: per-sample", f"pretty_name: {folder}",
        "task_categories: [image-to-image]",
        "configs:", "- config_name: default", "  data_files: data/*.parquet", "---", "",
        f"# {folder}", "", f"{len(metas)} samples imported with refbench: "
        + ", ".join(f"{name} {number}" for name, number in tasks.items()) + ".", "",
        "Licences: " + ", ".join(f"{name} ({number})" for name, number in licences.most_common()) + "."
        + (" Whoever passes the suite on must find out." if "unknown" in licences else ""), "",
        _OWN.format(folder=folder) + (_WITH_TARGETS if targets else _WITHOUT_TARGETS), "",
    ]  # fmt: skip
    return "\n".join([*lines, *_rights(metas)]) + "\n"


def _rights(metas: Sequence[SampleMeta]) -> list[str]:
    """Licence, author and source of every sample, as lines of a table."""
    head = ["| sample | licence | author | source |", "|---|---|---|---|"]
    return head + [f"| {meta.id} | {meta.licence} | {meta.attribution} | {meta.source} |" for meta in metas]


def task_card(suite: str, task: str, questions: Sequence[Question]) -> str:
    """The README.md of a task folder, with YAML front matter for the hub."""
    category, _, mode = task.partition("-")
    counts: dict[str, Counter[str]] = {
        "view": Counter(q.meta.view for q in questions),
        "degradation": Counter(q.meta.degradation for q in questions),
        "mask": Counter(q.meta.mask_kind for q in questions),
    }
    lines = [
        "---", "license: other", "license_name: per-sample", f"pretty_name: refbench {suite} {task}",
        "task_categories: [image-to-image]", "size_categories: [n<1K]",
        "configs:", "- config_name: default", "  data_files: data.parquet", "---", "",
        f"# {task}", "", _INTRO[category],
        "Mode *refine*: the right thing is there, badly drawn." if mode == "refine"
        else "Mode *replace*: something else stands in its place.", "",
        "Given draft, reference, mask and prompt, put the masked detail right as the reference shows it. Outside the",
        "mask the draft equals the target exactly. The decoded pixels of the stored pictures are the truth.", "",
        _READ.format(
            task=task, suite=suite if suite == "core" else "FOLDER",
            path=f"tasks/{suite}/{task}/data.parquet" if suite == "core" else f"FOLDER/{task}/data.parquet",
        ),
    ]  # fmt: skip
    for name, counter in counts.items():
        lines.append(f"- {name}: " + ", ".join(f"{key} {number}" for key, number in counter.most_common()))
    lines += [
        "", "## Licence, source and author of every sample", "",
        "All assets may be redistributed with attribution. Logos remain trademarks of their owners and are shown to",
        "test restoration only; no endorsement is implied. Clips and stills of comfyui-workflow-templates are",
        "AI-generated; the people in them do not exist.", "",
    ]  # fmt: skip
    return "\n".join([*lines, *_rights([q.meta for q in questions])]) + "\n"
