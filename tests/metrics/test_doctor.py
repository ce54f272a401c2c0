"""The doctor passes on every metric here, and sees a metric that is not what its card says."""

from __future__ import annotations

import pytest

from refbench.errors import RefbenchError
from refbench.metrics import METRICS, plain, run_doctor
from refbench.metrics.pixel import ssim
from refbench.metrics.plain import PLAIN

NAMES = [name for name in METRICS if name in PLAIN]


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_passes_its_closed_forms_and_its_second_library(name: str) -> None:
    checks = run_doctor([name])
    assert len(checks) >= 1
    for check in checks:
        assert check.passed, f"{check.name}: expected {check.expected}, found {check.found} {check.note}"
    # Published or worked-out values, beside the comparison with another library (dlib has no closed form).
    assert len(checks) >= 2 or name == "face_id"


def test_a_metric_that_moved_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssim, "C1", 0.02**2)
    failed = [check for check in run_doctor(["ssim"]) if check.passed is False]
    assert len(failed) == 2
    assert all(check.difference > check.tolerance for check in failed)


def test_a_broken_library_is_a_failed_check(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> float:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setitem(plain.PRECISE, "squeeze", broken)
    (failed,) = [check for check in run_doctor(["squeeze"]) if check.passed is False]
    assert failed.note == "RuntimeError: operator torchvision::nms does not exist"


def test_an_unknown_metric_is_told() -> None:
    with pytest.raises(RefbenchError, match="Unknown metric"):
        run_doctor(["nonsense"])
