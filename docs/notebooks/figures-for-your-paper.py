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
# # Figures for your paper
#
# From run folders to vector figures, the CSV behind each, and LaTeX tables. Any measured run will do: your own, or one of `refbench pull`.

# %%
import tempfile
from pathlib import Path

import pandas as pd
from IPython.display import Image, Markdown

import refbench
from refbench.report.figures import KINDS, make_figures

work = Path(tempfile.mkdtemp())
tasks = ["logo-refine", "pattern-refine"]
for model in ("reference-paste", "sharpen"):
    refbench.evaluate(model, "mini", out=work / model, tasks=tasks)
runs = [work / "reference-paste", work / "sharpen"]

# %% [markdown]
# ## What can be drawn

# %%
Markdown("\n".join(f"- `{kind}`: {text}" for kind, text in KINDS.items()))

# %% [markdown]
# ## Draw
#
# `style` sets widths and type sizes: `neurips`, `cvpr` or `slides`. On the command line: `refbench figures RUN RUN --out figures`.

# %%
made = make_figures(runs, work / "figures", "neurips", only=["axes", "qualitative", "tables"])
[path.name for path in made.files]

# %%
Image(work / "figures" / "axes.png")

# %% [markdown]
# The best, the median and the worst sample by a rule, not by hand; the caption says the rule.

# %%
Image(work / "figures" / "qualitative.png")

# %% [markdown]
# ## In the paper
#
# Every figure comes with the LaTeX that includes it, caption included.

# %%
print((work / "figures" / "axes.tex").read_text())

# %% [markdown]
# ## The numbers behind it
#
# The CSV beside each figure, for a figure of your own.

# %%
pd.read_csv(work / "figures" / "axes.csv").round(2)
