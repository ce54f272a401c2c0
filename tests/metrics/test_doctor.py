"""The doctor passes on every metric here, and sees a metric that is not what its card says."""

from __future__ import annotations

import pytest

from refbench.errors import RefbenchError
from refbench.metrics import run_doctor
from refbench.metrics.checks import Second
from refbench.metrics.consistency.seam import Seam
from refbench.metrics.learned.base import random_weights
from refbench.metrics.pixel import ssim
from refbench.metrics.registry import default_metrics, make_metrics
from refbench.metrics.texture.squeeze import Squeeze


@pytest.mark.parametrize("name", default_metrics())
def test_every_metric_passes_its_checks(name: str) -> None:
    checks = run_doctor([name])
    assert len(checks) >= 1
    for check in checks:
        assert check.passed, f"{check.name}: expected {check.expected}, found {check.found} {check.note}"
    # Published or worked-out values, beside another library; a diagnostic is shown with the first alone, and what dlib
    # gives has no closed form.
    metric = make_metrics([name])[name]
    kinds = {check.kind for check in checks}
    assert kinds & {"closed form", "perfect"} or name == "face_id"
    assert ("second library" in kinds) == (metric.card_once.axis != "diagnostics")
    assert ("perfect" in kinds, "symmetric" in kinds) == (metric.perfect is not None, metric.symmetric)


def test_metric_that_moved_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssim, "C1", 0.02**2)
    failed = [check for check in run_doctor(["ssim"]) if check.passed is False]
    assert [check.kind for check in failed] == ["closed form", "second library"]
    assert all(check.difference > check.tolerance for check in failed)


def test_broken_library_is_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> float:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(Squeeze, "second", Second("a broken library", broken))
    (failed,) = [check for check in run_doctor(["squeeze"]) if check.passed is False]
    assert failed.note == "RuntimeError: operator torchvision::nms does not exist"


@pytest.mark.parametrize(("claim", "value"), [("perfect", 0.5), ("symmetric", True)])
def test_a_false_claim_fails(claim: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of seam, whose perfect value is 0, and which measures the output's edge beyond the target's."""
    monkeypatch.setattr(Seam, claim, value)
    assert [check.kind for check in run_doctor(["seam"]) if check.passed is False] == [claim]


def test_a_metric_without_check_is_told() -> None:
    """A learned metric is a network published elsewhere: nothing can be worked out of it."""
    with random_weights(0):
        (check,) = run_doctor(["lpips_squeeze"])
    assert (check.kind, check.passed) == ("none", None)
    assert "no closed form, no second library" in check.note


def test_an_unknown_metric_is_told() -> None:
    with pytest.raises(RefbenchError, match="Unknown metric"):
        run_doctor(["nonsense"])
