"""What users read is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from refbench.leaderboard.refused import FINDINGS

ROOT = Path(__file__).resolve().parents[2]


def test_guide_lists_every_finding() -> None:
    text = (ROOT / "docs" / "reference" / "findings.md").read_text()
    listed = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (.+) \|$", text, flags=re.MULTILINE))
    assert listed == FINDINGS


def test_every_finding_is_used_and_listed() -> None:
    used: set[str] = set()
    for path in (ROOT / "refbench" / "leaderboard").glob("*.py"):
        if path.name != "refused.py":
            used |= set(re.findall(r'"([a-z0-9]+(?:-[a-z0-9]+)*)"', path.read_text()))
    assert [name for name in FINDINGS if name not in used] == []


def test_the_guides_commands_exist() -> None:
    from refbench.cli.main import VERBS

    text = (ROOT / "docs" / "submitting.md").read_text()
    verbs = set(re.findall(r"refbench ([a-z-]+)", text)) - {"and"}
    assert {verb for verb in verbs if verb in VERBS} >= {"eval", "submit", "verify", "leaderboard", "new-adapter"}


def test_workflow_gives_pull_requests_no_power() -> None:
    text = (ROOT / ".github" / "workflows" / "verify-entry.yml").read_text()
    flow = yaml.safe_load(text)
    trigger = flow.get("on", flow.get(True))
    assert list(trigger) == ["pull_request"]  # never pull_request_target, which would hand out a token
    assert flow["permissions"] == {"contents": "read"}
    steps = flow["jobs"]["verify"]["steps"]
    base = next(step for step in steps if step.get("with", {}).get("path") == "base")
    assert "base.sha" in base["with"]["ref"]
    assert next(step for step in steps if step.get("run") == "make env")["working-directory"] == "base"
    for step in steps:
        assert "${{ github.event.pull_request.title" not in str(step)
        assert "head.ref" not in str(step)  # a branch name is text of a stranger's
    assert "secrets." not in text


def test_script_downloads_over_https_only() -> None:
    text = (ROOT / ".ci" / "verify-entry").read_text()
    for option in ("--proto '=https'", "--proto-redir '=https'", "--max-filesize", "--max-time", '-- "$url"'):
        assert option in text
