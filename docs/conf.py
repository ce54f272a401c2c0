"""Sphinx configuration of the site; `make docs` builds it, with every warning an error.

The source folder is the repository, so that a relative link in a page works on the site and on the forge alike, also
to reports, the board and the data cards. Navigation is read from the pages: what docs/index.md links to in the first
column of its tables, by heading, and below a hub what the hub links to in its own folder.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

project = "refbench"
author = copyright = "the refbench authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "reports/*.md",
    "leaderboard/README.md",
    "tasks/core/*/README.md",
    "refbench/omnirefiner/README.md",
    "spaces/board/README.md",
    "comfyui/README.md",
    "CHANGELOG.md",
    "THIRD_PARTY_NOTICES.md",
]
exclude_patterns = [".*", "build", "dist", "runs", "tests", "benchmarks", "leaderboard/entries", "leaderboard/sheet"]

myst_heading_anchors = 4  # the forge's anchors
myst_enable_extensions = ["attrs_inline"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_default_options = {"exclude-members": "model_config"}
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

nitpicky = True
FOREIGN = (
    "np",
    "numpy",
    "pd",
    "pandas",
    "pyarrow",
    "pydantic",
    "torch",
    "pathlib",
    "os",
    "collections",
    "typing",
    "PIL",
    "nn",
    "abc",
)
"""Libraries whose names stand in signatures; their documentation is not asked for, as a build reaches no network."""
nitpick_ignore_regex = [
    (r"py:.*", rf"({'|'.join(FOREIGN)})(\..*)?"),
    (r"py:.*", r"(Any|Path|Mapping|Sequence|Iterator|Iterable|Collection|Callable|Literal|Tensor|NDArray|Exception)"),
    (r"py:.*", r"(str|int|float|bool|bytes|dict|list|tuple|set|frozenset|object|None|ABC|Protocol|ValueError)"),
    (r"py:.*", r"(ndarray|generic|u?int\d+|float\d+)"),
]

html_theme = "furo"
html_title = "refbench"
html_baseurl = ""
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_static_path = ["static"]
html_css_files = ["site.css"]
html_theme_options = {"light_css_variables": {"color-brand-primary": "#0b5c6b", "color-brand-content": "#0b5c6b"}}

HUBS = {
    "reports/README": r"[^/]+$",
    "docs/contributing": r"contributing-",
    "docs/omnirefiner": r"\.\./refbench/",
    "docs/places": r"\.\./(spaces|comfyui)/",
    "docs/reference/tasks": r"\.\./\.\./tasks/",
}
"""Page -> which of its links, by how they begin, are to pages that stand below it."""

_INTERVAL = re.compile(r"(\d) \[(-?[\d.]+), (-?[\d.]+)\]")
_ARRAY = re.compile(
    r"~?(?:numpy\.)?ndarray\[tuple\[~?(?:typing\.)?Any, \.\.\.\], ~?(?:numpy\.)?dtype\[~?(?:numpy\.)?(\w+)\]\]"
)
_HEADING = re.compile(r"^## (.+)$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)#:\s]+)\.md(?:#[^)]*)?\)")
_FIRST_LINK = re.compile(r"^\| \[[^]]*\]\(([^)#:\s]+)\.md\)", re.MULTILINE)


def _toctree(links: list[str], caption: str | None = None) -> str:
    lines = ["", "```{toctree}", ":hidden:", *([f":caption: {caption}"] if caption else []), "", *links, "```", ""]
    return "\n".join(lines)


def keep_intervals_whole(app: Any, name: str, source: list[str]) -> None:
    """No line breaks inside "0.2 [-0.8, 1.1]" and "0.2 ±0.9"."""
    source[0] = _INTERVAL.sub("\\1\u00a0[\\2,\u00a0\\3]", source[0]).replace(" ±", "\u00a0±")


def add_navigation(app: Any, name: str, source: list[str]) -> None:
    """Append the tables of contents that the page's own links make."""
    if name == root_doc:
        parts = _HEADING.split(source[0])[1:]
        for caption, text in zip(parts[::2], parts[1::2], strict=True):
            links = list(dict.fromkeys(_FIRST_LINK.findall(text)))
            source[0] += _toctree([link if link.startswith("..") else f"/docs/{link}" for link in links], caption)
    elif name in HUBS:
        links = list(dict.fromkeys(link for link in _LINK.findall(source[0]) if re.match(HUBS[name], link)))
        source[0] += _toctree(links)


def plain_attributes(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Keep napoleon from reading an attribute's "words: more words" as a type and a description."""
    if what in ("attribute", "data", "property"):
        lines.insert(0, "\\")  # a line that shows nothing and has no colon


def readable(
    app: Any, what: str, name: str, thing: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """ "ndarray[float64]" for numpy's own way of saying it, and "..." for a default that is made anew each time."""
    return tuple(
        text and _ARRAY.sub(r"ndarray[\1]", text).replace("<factory>", "...") for text in (signature, returned)
    )


def known_elsewhere(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Resolve a name of refbench by its last part; one without an entry on a page is text, if it exists."""
    target = node.get("reftarget", "")
    python = env.domains.python_domain
    entries = [name for name in python.objects if f".{name}".endswith(f".{target}")]
    if len(entries) == 1:
        return python.resolve_xref(env, node["refdoc"], app.builder, "obj", entries[0], node, content)
    return content if _exists(target) else None


def _exists(target: str) -> bool:
    first, *rest = target.split(".")
    if first == "refbench":
        return any(_has(".".join([first, *rest[:cut]]), rest[cut:]) for cut in range(len(rest), -1, -1))
    loaded = [name for name in list(sys.modules) if name.split(".")[0] == "refbench"]
    return any(_has(name, [first, *rest]) for name in loaded)  # a bare name: of whatever module is loaded


def _has(module: str, path: list[str]) -> bool:
    try:
        found: Any = importlib.import_module(module)
        for part in path:
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return False
    return True


def add_front(app: Any, error: Exception | None) -> None:
    """A page at the site's root that leads to its front page."""
    if error is None and app.builder.name == "html":
        page = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=docs/index.html">'
        (Path(app.outdir) / "index.html").write_text(page + '<a href="docs/index.html">refbench</a>', encoding="utf-8")


def setup(app: Any) -> None:
    """Connect the above."""
    app.connect("source-read", keep_intervals_whole)
    app.connect("source-read", add_navigation)
    app.connect("autodoc-process-docstring", plain_attributes, priority=400)
    app.connect("autodoc-process-signature", readable)
    app.connect("missing-reference", known_elsewhere)
    app.connect("build-finished", add_front)
