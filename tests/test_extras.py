"""A package that is not installed is told by the extra that brings it, wherever it is missed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from refbench.errors import EXTRAS, missing_package

PROJECT = tomllib.loads((Path(__file__).resolve().parents[1] / "pyproject.toml").read_text())["project"]
DISTRIBUTIONS = {
    "open_clip": "open_clip_torch",
    "cleanfid": "clean-fid",
    "pytorch_fid": "pytorch-fid",
    "resvg_py": "resvg-py",
    "python_multipart": "python-multipart",
}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!;\[ ]", requirement)[0] for requirement in requirements}


@pytest.mark.parametrize("extra", EXTRAS)
def test_table_is_what_extras_hold(extra: str) -> None:
    held, base = names(PROJECT["optional-dependencies"][extra]), names(PROJECT["dependencies"])
    for module in EXTRAS[extra]:
        assert DISTRIBUTIONS.get(module, module) in held - base


def test_submodule_counts_and_other_errors_do_not() -> None:
    error = missing_package(ModuleNotFoundError("No module", name="diffusers.models"), "for this")
    assert str(error) == (
        "Expected the package diffusers for this, but it is not installed; install the extra 'models': "
        "`pip install 'refbench[models]'`."
    )
    assert missing_package(ModuleNotFoundError("No module", name="my_package")) is None
    assert missing_package(ImportError("cannot import name 'x' from 'diffusers'")) is None
