# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Evaluate your model in ten minutes
#
# A *draft* has a wrong detail, a *reference* shows it right, a *mask* says where. You bring a function that gives back an image; refbench says how
# well it put the detail right, and whether it left the rest alone. Needs `pip install refbench`, no GPU and no download.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import refbench
from refbench.results.resultset import compare_runs

work = Path(tempfile.mkdtemp())
suite = refbench.load_suite("mini")
suite

# %% [markdown]
# ## One question
#
# What a model is given of a sample: never the target.

# %%
sample = suite.sample("logo-refine-000")
fig, axes = plt.subplots(1, 3, figsize=(9, 3))
for ax, (title, picture) in zip(
    axes, {"draft": sample.draft, "reference": sample.reference, "mask": sample.mask}.items(), strict=True
):
    ax.imshow(picture, cmap="gray")
    ax.set_title(title)
    ax.axis("off")
fig.tight_layout()
sample.prompt

# %% [markdown]
# ## Your model
#
# A class with a card and `refine`. This one lays the reference's colours over the masked part: a poor model, but a real one. Weights are loaded in
# `__init__`; options are its keyword arguments. A script with an environment of its own, or a folder of pictures, is as good (docs/adapters.md).

# %%
model = work / "tint.py"
model.write_text('''
import numpy as np
from refbench.schema import AdapterCard


class Tint:
    """Shifts the masked part to the reference's mean colour."""

    card = AdapterCard(name="tint", summary="The reference's mean colour over the draft.", licence="Apache-2.0")

    def __init__(self, *, device="cpu", strength=0.5):
        self.strength = strength

    def refine(self, inputs):
        out = inputs.draft.astype(float)
        wanted = inputs.reference.reshape(-1, 3).mean(axis=0)
        inside = inputs.mask
        out[inside] += self.strength * (wanted - out[inside].mean(axis=0))
        return np.clip(np.rint(out), 0, 255).astype(np.uint8)
''')

adapter = refbench.load_adapter(model)
refined = adapter.refine(sample)
plt.imshow(refined.image)
plt.axis("off")
refined.seconds

# %% [markdown]
# ## Evaluate it
#
# Two tasks of the small suite here. Leave `tasks` out and take `"core"` for the 160 samples of the leaderboard: stop it and start it again as you like.

# %%
tasks = ["logo-refine", "pattern-refine"]
mine = refbench.evaluate(model, "mini", out=work / "tint", tasks=tasks)
other = refbench.evaluate("sharpen", "mini", out=work / "sharpen", tasks=tasks)
mine, other

# %% [markdown]
# 0 is a trivial answer (the untouched draft), 100 the ground truth, in brackets a 95 % interval over sources. The same by axis:

# %%
run = refbench.load_run(work / "tint")
{axis: cell.value for axis, cell in run.numbers.axes.items()}

# %% [markdown]
# Every sample, with what was found beside the score:

# %%
run.samples[
    ["sample", "mean", "texture_fidelity", "reference_alignment", "local_consistency", "outside_touched"]
].round(2)

# %% [markdown]
# ## Which is better?
#
# Both on the same samples, paired.

# %%
found = compare_runs([work / "tint", work / "sharpen"])
found.pairs[0].words

# %% [markdown]
# ## Look at it
#
# `refbench report RUN` writes a page with every sample, sliders and differences. Then: `refbench submit` packs an entry for the leaderboard,
# `refbench push` puts the run on the Hugging Face hub, and `refbench.metrics.torch` has every number as a torchmetrics metric for your training loop.

# %%
adapter.close()
