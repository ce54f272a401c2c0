"""Face embeddings by a file of the user's choice, and pyiqa's metrics (skipped where it is not installed)."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from refbench.errors import RefbenchError, UnavailableError
from refbench.metrics import Measurer
from refbench.metrics.learned import base, face
from refbench.metrics.learned.base import random_weights
from refbench.metrics.registry import make_metrics
from refbench.metrics.view import View
from tests.metrics.scenes import face_truth, halfway, scene


class TestFaces:
    @pytest.fixture(autouse=True)
    def _file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A small network with one picture in and one vector out stands in for a face network (rapidocr's turner)."""
        wanted = ("dlib", "onnxruntime", "face_recognition_models", "rapidocr")
        specs = {module: find_spec(module) for module in wanted}  # the packages' data is used, not their code
        lacking = [module for module, spec in specs.items() if spec is None]
        if lacking:
            pytest.skip(f"{', '.join(lacking)} not installed")
        spec = specs["rapidocr"]
        assert spec is not None
        assert spec.origin is not None
        self.path = next((Path(spec.origin).parent / "models").glob("*cls*.onnx"))
        monkeypatch.setenv("REFBENCH_FACE_ONNX", str(self.path))

    def test_face_is_turned_to_arcfaces_places(self) -> None:
        """Points that are turned, scaled and shifted are brought back exactly (Umeyama's closed form)."""
        angle, scale, shift = 0.4, 1.7, np.array([30.0, -12.0])
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        points = face.PLACES @ turn.T * scale + shift
        matrix = face.similarity(points, face.PLACES)
        assert np.allclose(points @ matrix[:, :2].T + matrix[:, 2], face.PLACES)
        assert np.linalg.det(matrix[:, :2]) == pytest.approx(1 / scale**2)

    def test_same_face_is_near(self) -> None:
        import onnxruntime

        from refbench.metrics.alignment.face_id import find_faces

        truth, damaged = face_truth()
        metric = make_metrics(["face_onnx"])["face_onnx"]
        perfect, spoilt = (metric.values([View(truth, image)])[0] for image in (truth.target, damaged))
        assert perfect is not None
        assert spoilt is not None
        assert -1.0 <= spoilt <= 1.0
        assert truth.reference is not None
        kept = find_faces(truth, lambda image, box: face.embed_face(image, box, str(self.path)))
        x = (face.aligned(truth.target, kept["box"]).astype(np.float32) - 127.5) / 127.5
        own = onnxruntime.InferenceSession(str(self.path), providers=["CPUExecutionProvider"])
        mine = own.run(None, {own.get_inputs()[0].name: x.transpose(2, 0, 1)[None]})[0][0]
        theirs = kept["reference"]
        expected = float(mine @ theirs / np.linalg.norm(mine) / np.linalg.norm(theirs))
        assert perfect == pytest.approx(expected, abs=1e-5)

    def test_card_names_the_file_by_hash(self) -> None:
        import hashlib

        card = make_metrics(["face_onnx"])["face_onnx"].card()
        assert card.weights_sha256 == hashlib.sha256(self.path.read_bytes()).hexdigest()

    def test_file_without_network_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "face.onnx"
        path.write_bytes(b"no network")
        with pytest.raises(RefbenchError, match="Expected an ONNX network at"):
            face.session(str(path))
        monkeypatch.delenv("REFBENCH_FACE_ONNX")
        with pytest.raises(UnavailableError, match="REFBENCH_FACE_ONNX"):
            Measurer(["face_onnx"])


class TestQuality:
    @pytest.fixture(autouse=True)
    def _random(self) -> Iterator[None]:
        pytest.importorskip("pyiqa")
        with random_weights(2):
            yield

    @pytest.mark.parametrize("name", ["topiq", "musiq", "niqe"])
    def test_the_value_is_pyiqas(self, name: str) -> None:
        truth = scene()
        output = halfway(truth)
        metric = make_metrics([name])[name]
        (found,) = metric.values([View(truth, output)])
        model = metric.model()  # type: ignore[attr-defined]
        region = metric.region(View(truth, output), output)  # type: ignore[attr-defined]
        pictures = [base.to_tensor([region], "cpu")]
        if name == "topiq":
            pictures.append(base.to_tensor([View(truth, output).known.target], "cpu"))
        else:
            assert min(region.shape[:2]) >= 192
        assert found == pytest.approx(float(model(*pictures)), abs=1e-5, rel=1e-5)
        assert "PolyForm-Noncommercial" in metric.card().licence

    def test_licence_is_said_where_chosen(self) -> None:
        from refbench.metrics.learned.quality import Quality
        from refbench.weights import CATALOGUE

        assert "PolyForm-Noncommercial" in Quality.install
        assert all(CATALOGUE[name].restricted for name in ("topiq-fr", "musiq-koniq", "niqe"))
