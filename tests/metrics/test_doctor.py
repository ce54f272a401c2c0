"""The doctor passes on every metric here, and sees a metric that is not what its card says."""

from __future__ import annotations

import pytest

from refbench.errors import RefbenchError
from refbench.metrics import run_doctor
from refbench.metrics.checks import Second
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
    assert len(checks) >= 2 or name == "face_id" or metric.card_once.axis == "diagnostics"
    assert (metric.second is None) == (metric.card_once.axis == "diagnostics")


def test_a_metric_that_moved_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssim, "C1", 0.02**2)
    failed = [check for check in run_doctor(["ssim"]) if check.passed is False]
    assert len(failed) == 2
    assert all(check.difference > check.tolerance for check in failed)


def test_a_broken_library_is_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> float:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(Squeeze, "second", Second("a broken library", broken))
    (failed,) = [check for check in run_doctor(["squeeze"]) if check.passed is False]
    assert failed.note == "RuntimeError: operator torchvision::nms does not exist"


def test_an_unknown_metric_is_told() -> None:
    with pytest.raises(RefbenchError, match="Unknown metric"):
        run_doctor(["nonsense"])
