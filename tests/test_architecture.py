"""Data flows one way through the rooms, and what the command line imports first is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "refbench"

BASE = {
    "cache", "csvtext", "decoding", "errors", "images", "crops", "devices", "pictures", "plaintext", "registry",
    "schema", "serving", "shipped", "baselines", "weights", "registration", "spelling", "trackers",
}  # fmt: skip
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "cache": set(),
    "csvtext": set(),
    "decoding": {"errors"},
    "plaintext": {"errors"},
    "spelling": set(),
    "images": {"errors", "decoding"},
    "crops": {"images", "errors"},
    "devices": {"errors"},
    "pictures": {"errors", "images"},
    "registry": {"errors"},
    "schema": {"images"},
    "baselines": {"images", "schema"},
    "trackers": {"errors", "images"},
    "weights": {"errors", "cache"},
    "registration": {"errors", "images", "schema", "shipped"},
    "shipped": {"errors"},
    "serving": {"errors"},
    "tasks": BASE,
    "metrics": BASE,
    "stats": BASE,
    "omnirefiner": BASE | {"tasks", "metrics"},
    "adapters": BASE | {"omnirefiner"},
    "runs": BASE | {"tasks", "adapters", "metrics", "stats"},
    "app": BASE | {"adapters", "runs"},
    "results": BASE | {"tasks", "adapters", "metrics", "stats", "runs"},
    "metrics.torch": BASE | {"tasks", "metrics", "stats", "runs"},
    "places": BASE | {"tasks", "adapters", "metrics", "stats", "runs", "results", "leaderboard", "report"},
    "leaderboard": BASE | {"tasks", "adapters", "metrics", "stats", "runs", "results"},
    "report": BASE | {"tasks", "adapters", "metrics", "stats", "runs", "results"},
    "people": BASE | {"tasks", "adapters", "metrics", "stats", "runs", "results", "report"},
}
"""Room -> rooms it may import. The command line and the package's own front may import all."""
FRONTS = ("metrics.torch",)
"""Modules that stand in a room for their name's sake, further to the right than it."""

HEAVY = {
    "torch", "torchvision", "pandas", "pyarrow", "cv2", "skimage", "diffusers", "transformers", "scipy", "matplotlib",
    "timm", "piq", "torchmetrics", "lpips", "dreamsim", "open_clip", "onnxruntime", "dlib", "datasets",
    "ray", "submitit", "fsspec", "starlette", "uvicorn",
}  # fmt: skip


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "_data" not in path.parts)


def room(path: Path) -> str:
    full = name_of(path).removeprefix("refbench.")
    return full if full in FRONTS else path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Full names of everything a module imports, wherever in the file, relative imports resolved."""
    package = ("refbench", *path.relative_to(PACKAGE).parts[:-1])
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            names |= {module} if module != "refbench" else {f"refbench.{alias.name}" for alias in node.names}
    return names


def rooms_of(names: set[str]) -> set[str]:
    full = {name.removeprefix("refbench.") for name in names if name.startswith("refbench.")}
    rooms = {next((front for front in FRONTS if name.startswith(front)), name.split(".")[0]) for name in full}
    return rooms - {"__version__"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_to_left_imports_from_right(path: Path) -> None:
    here = room(path)
    if here in ("cli", "__init__", "__main__"):
        return
    assert here in ALLOWED, f"{here} is a new room: say in ALLOWED what it may import"
    assert rooms_of(imported(path)) - {here} <= ALLOWED[here]


def test_import_scan_sees_every_form_of_import(tmp_path: Path) -> None:
    source = (
        "import refbench.cli.main\nfrom refbench import runs\ndef f():\n    from refbench.report.html import page\n"
    )
    path = PACKAGE / "scan_example.py"
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} if node.module != "refbench" else {f"refbench.{a.name}" for a in node.names}
    assert rooms_of({str(name) for name in names}) == {"cli", "runs", "report"}
    assert room(path) == "scan_example"


def name_of(path: Path) -> str:
    return ".".join(("refbench", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


def needed(source: str, known: set[str]) -> set[str]:
    """The modules of `known` that a module imports when it or a function of it runs; not those for types alone."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for field, value in ast.iter_fields(node):
            if isinstance(value, list):
                kept = [one for one in value if not (isinstance(one, ast.If) and "TYPE_CHECKING" in ast.dump(one.test))]
                setattr(node, field, kept)
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            below = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (below & known) | ({str(node.module)} if below - known else set())
    return found & known


def circles(imports: dict[str, set[str]]) -> list[set[str]]:
    """Groups of modules of which each needs the others, by closing the relation."""
    reached = {name: set(names) for name, names in imports.items()}
    while True:
        more = {name: names.union(*(reached[one] for one in names)) for name, names in reached.items()}
        if more == reached:
            break
        reached = more
    groups = {frozenset(one for one in names if name in reached[one]) for name, names in reached.items()}
    return [set(group) for group in groups if group]


def test_no_modules_import_each_other() -> None:
    known = {name_of(path) for path in modules()}
    imports = {name_of(path): needed(path.read_text(encoding="utf-8"), known) for path in modules()}
    assert circles(imports) == []


def test_circle_search_sees_no_types() -> None:
    known = {"refbench.a", "refbench.b", "refbench.c"}
    imports = {
        "refbench.a": needed("from refbench import b", known),
        "refbench.b": needed("def f():\n    from refbench.c import thing", known),
        "refbench.c": needed("if TYPE_CHECKING:\n    from refbench.a import Thing", known),
    }
    assert circles(imports) == []
    assert circles({**imports, "refbench.c": needed("import refbench.a", known)}) == [known]


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import refbench",
        "import refbench.cli.main",
        "import refbench.schema, refbench.registry, refbench.images",
        "import refbench.runs.api, refbench.runs.measure, refbench.runs.aggregate",
        "import refbench.adapters.registry, refbench.adapters.classes, refbench.adapters.contained",
        "import refbench.metrics.registry, refbench.metrics.contract",
        "import refbench.tasks.suite",
        "import refbench.weights, refbench.weights.listing",
    ],
)
def test_heavy_libraries_are_imported_late(statement: str) -> None:
    assert loaded_by(statement) & HEAVY == set()


def test_help_page_imports_neither_torch_nor_numpy() -> None:
    code = "import refbench.cli.main as m\nassert m.main(['--help']) == 0"
    assert loaded_by(code) & (HEAVY | {"numpy", "pydantic"}) == set()


def test_verbs_are_loaded_when_called() -> None:
    code = "import refbench.cli.main as m, sys\nm.main(['--help'])\n"
    code += "print([v for v, (n, _) in m.VERBS.items() if f'refbench.cli.{n}' in sys.modules])"
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert text.splitlines()[-1] == "[]"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_explain_themselves_and_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)) or not text.strip(), "the first line says what the module does"
    assert text.count("\n") <= 500


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_all_that_is_printed_made_harmless(path: Path) -> None:
    if path.relative_to(PACKAGE).as_posix() in ("cli/show.py", "cli/main.py"):  # the two that print
        return
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    assert not [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
