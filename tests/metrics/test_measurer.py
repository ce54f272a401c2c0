"""Measuring: one image, the feature store, what is unavailable, and wrong input in one sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from refbench.baselines import baseline_images
from refbench.errors import RefbenchError, UnavailableError
from refbench.metrics import FeatureStore, Measurer, measure_one
from refbench.metrics.alignment import face_id, keypoint_gain
from refbench.metrics.backbones import load_squeezenet, read_weights
from refbench.metrics.checks import lettered
from refbench.metrics.packages import checked_file
from refbench.metrics.texture import reader
from refbench.metrics.texture.ocr_cer import edit_distance, error_rate, plain
from refbench.metrics.view import Known
from refbench.schema import ORDER
from refbench.tasks.suite import load_suite
from tests.metrics.scenes import face_truth, halfway, scene, text_truth


def test_one_image_without_a_mask() -> None:
    truth = scene()
    scores = measure_one(halfway(truth), truth.target)
    assert {score.region for score in scores} == {"full"}
    assert {"psnr", "ssim", "illumination", "sharpness"} <= {score.metric for score in scores}
    assert not {"embed", "ocr_cer", "face_id", "seam"} & {score.metric for score in scores}


def test_complete_image_has_all_three_axes() -> None:
    truth = scene()
    scores = measure_one(halfway(truth), truth.target, truth.reference, truth.mask, truth.draft)
    assert {score.axis for score in scores} == set(ORDER)
    assert {score.region for score in scores} == {"inside", "outside", "seam"}
    assert len({score.card for score in scores}) == len(scores)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("embed", "needs a reference, which did not come; give it with --reference"),
        ("seam", "needs a mask, which did not come; give it with --mask"),
        ("background_exact", "needs a mask"),
        ("ms_ssim", "needs an image of at least 176 px on its short side"),
    ],
)
def test_named_metric_without_input_is_refused(name: str, sentence: str) -> None:
    truth = scene(96, 120)
    with pytest.raises(RefbenchError, match=sentence):
        measure_one(halfway(truth), truth.target, names=[name])


def test_keypoint_gain_needs_a_draft() -> None:
    truth = scene()
    with pytest.raises(RefbenchError, match="needs a draft"):
        measure_one(truth.target, truth.target, truth.reference, truth.mask, names=["keypoint_gain"])


def test_named_category_metric_may_be_undefined() -> None:
    word = lettered("HELLO")
    assert measure_one(word, word, names=["ocr_cer"])[0].value == 0.0
    blank = np.full((96, 320, 3), 245, dtype=np.uint8)
    with pytest.raises(RefbenchError, match="no text was read in the target"):
        measure_one(blank, blank, names=["ocr_cer"])


def test_an_unknown_metric_names_the_nearest() -> None:
    with pytest.raises(RefbenchError, match="Unknown metric 'sim': did you mean ssim"):
        Measurer(["sim"])


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (np.zeros((10, 10, 3), np.uint8), "Expected 232 x 200 px"),
        (np.zeros((200, 232, 3), np.float32), "uint8 .* but it is float32"),
        (np.zeros((200, 232), np.uint8), r"\(H, W, 3\) uint8"),
        (None, "but it is a NoneType"),
    ],
)
def test_a_wrong_output_is_one_sentence(output: object, sentence: str) -> None:
    with pytest.raises(RefbenchError, match=sentence):
        Measurer(["mse"]).measure([scene()], [output])  # type: ignore[list-item]


@pytest.mark.parametrize(("fill", "sentence"), [(False, "all black"), (True, "all white")])
def test_empty_or_full_mask_is_refused(fill: bool, sentence: str) -> None:
    truth = scene()
    with pytest.raises(RefbenchError, match=sentence):
        Measurer(["mse"]).measure([replace(truth, mask=np.full((200, 232), fill))], [truth.target])


def test_more_outputs_than_truths_are_refused() -> None:
    with pytest.raises(RefbenchError, match="one output for each truth, but 2 came for 1"):
        Measurer(["mse"]).measure([scene()], [scene().target] * 2)


def test_without_files_metric_is_named_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "PACKAGE", "no_such_package")
    monkeypatch.setattr(face_id, "PACKAGE", "no_such_package")
    measurer = Measurer()
    assert set(measurer.unavailable) == {"ocr_cer", "face_id"}
    assert "run `uv pip install" in measurer.unavailable["ocr_cer"]
    assert "ocr_cer" not in measurer.cards
    with pytest.raises(UnavailableError, match="'face_id' is unavailable here: it needs the model files"):
        Measurer(["face_id"])


def test_other_model_files_make_it_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(reader.SHA256, reader.RECOGNISER, "0" * 64)
    monkeypatch.setitem(face_id.SHA256, face_id.LANDMARKS, "0" * 64)
    unavailable = Measurer().unavailable
    assert "needs other model files than those of the installed rapidocr: run `" in unavailable["ocr_cer"]
    assert "face-recognition-models: run `" in unavailable["face_id"]


def test_wrong_model_file_is_refused() -> None:
    with pytest.raises(UnavailableError, match="Expected SHA-256 000000000000"):
        checked_file(reader.PACKAGE, reader.RECOGNISER, "0" * 64, "some command")
    with pytest.raises(UnavailableError, match="not installed: run `some command`"):
        checked_file("no_such_package", ("a.onnx",), "0" * 64, "some command")


def test_damaged_backbone_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RefbenchError, match="No such file"):
        read_weights("squeezenet1_1", tmp_path)
    (tmp_path / "squeezenet1_1.safetensors").write_bytes(b"not these")
    with pytest.raises(RefbenchError, match="Expected SHA-256 02441a857f94"):
        read_weights("squeezenet1_1", tmp_path)


def test_backbones_are_shared_and_differentiable() -> None:
    import torch

    assert load_squeezenet() is load_squeezenet()
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    load_squeezenet()(image).square().mean().backward()
    assert image.grad is not None
    assert float(image.grad.abs().sum()) > 0


class TestFeatureStore:
    """What is known of a truth alone is made once, and never read for another picture or definition."""

    NAMES = ("embed", "keypoint_gain", "palette", "fsimc", "spectrum", "seam")

    def test_second_model_finds_equal_values(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        truth = scene(key="a" * 16)
        cold = Measurer(self.NAMES, features=FeatureStore(tmp_path)).measure([truth], [halfway(truth)])
        counted: list[int] = []
        original = keypoint_gain.descriptors
        monkeypatch.setattr(keypoint_gain, "descriptors", lambda *a: counted.append(1) or original(*a))
        warm = Measurer(self.NAMES, features=FeatureStore(tmp_path)).measure([truth], [halfway(truth)])
        assert warm == cold
        assert len(counted) == 1, "only the output's keypoints are found again"

    def test_another_card_is_another_feature(self, tmp_path: Path) -> None:
        store = FeatureStore(tmp_path)
        store.save("k", {"palette.reference@111": {"a": np.arange(3)}})
        assert "palette.reference@222" not in FeatureStore(tmp_path).load("k")
        assert np.array_equal(FeatureStore(tmp_path).load("k")["palette.reference@111"]["a"], np.arange(3))

    def test_a_torn_file_is_made_anew(self, tmp_path: Path) -> None:
        truth = scene(key="b" * 16)
        Measurer(["palette"], features=FeatureStore(tmp_path)).measure([truth], [truth.target])
        (path,) = tmp_path.rglob("*.safetensors")
        path.write_bytes(path.read_bytes()[:20])
        scores = Measurer(["palette"], features=FeatureStore(tmp_path)).measure([truth], [truth.target])
        assert scores[0][0].value > 0
        assert path.stat().st_size > 20

    def test_truth_without_key_leaves_nothing(self, tmp_path: Path) -> None:
        Measurer(["palette"], features=FeatureStore(tmp_path)).measure([scene()], [scene().target])
        assert not list(tmp_path.rglob("*"))

    def test_memory_stays_within_its_bound(self) -> None:
        store = FeatureStore(memory_mb=1)
        for number in range(10):
            store.save(str(number), {"x@y": {"a": np.zeros(2**16)}})
        assert store._size <= 2**20
        assert store.load("9")
        assert not store.load("0")

    def test_an_unwritable_folder_costs_only_time(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        store = FeatureStore(tmp_path / "file")
        store.save("k", {"x@y": {"a": np.zeros(1)}})
        assert list(tmp_path.iterdir()) == [tmp_path / "file"]
        assert (tmp_path / "file").read_text() == ""


class TestReading:
    """The character error rate."""

    @pytest.mark.parametrize(
        ("a", "b", "edits"), [("kitten", "sitting", 3), ("", "abc", 3), ("flaw", "lawn", 2), ("same", "same", 0)]
    )
    def test_edit_distance_of_known_pairs(self, a: str, b: str, edits: int) -> None:
        assert edit_distance(a, b) == edit_distance(b, a) == edits

    def test_case_space_and_width_do_not_count(self) -> None:
        assert plain(" Café ＡＢ c\n") == "caféabc"
        assert error_rate("muchlongerthanthat", "ab") == 1.0

    def test_given_text_goes_first(self) -> None:
        truth = text_truth("BENCHMARK", text="BENCHMURK")
        value = Measurer(["ocr_cer"]).measure([truth], [lettered("BENCHMURK")])[0][0].value
        assert value == 0.0
        assert Measurer(["ocr_cer"]).measure([truth], [truth.target])[0][0].value == pytest.approx(1 / 9)

    def test_lines_in_perspective_read_in_order(self) -> None:
        import cv2

        sheet = np.full((220, 400, 3), 250, dtype=np.uint8)
        for row, word in enumerate(("FRESH ROAST", "COFFEE")):
            cv2.putText(sheet, word, (30, 80 + 80 * row), cv2.FONT_HERSHEY_DUPLEX, 1.5, (30, 20, 20), 3, cv2.LINE_AA)
        corners = np.float32([[0, 0], [400, 0], [400, 220], [0, 220]])
        turned = np.float32([[10, 20], [390, 0], [380, 200], [0, 219]])
        view = cv2.warpPerspective(
            sheet, cv2.getPerspectiveTransform(corners, turned), (400, 220), borderValue=(250,) * 3
        )
        lines = reader.find_lines(view)
        assert (
            plain("".join(reader.read_strips([reader.straighten(view, line) for line in lines]))) == "freshroastcoffee"
        )

    @pytest.mark.parametrize("name", ["text-refine-000", "text-refine-005", "text-refine-011", "text-replace-005"])
    def test_suites_text_read_as_by_rapidocr(self, name: str) -> None:
        """The same lines, to rapidocr's rounding to whole pixels, and the same text, at the same size of the crop."""
        from rapidocr import RapidOCR

        image = Known(load_suite("mini").truth(name)).target
        sides = sorted(image.shape[:2])
        params = {
            "Global.use_cls": False,  # no line stands on its head
            "Global.text_score": 0.0,
            "Global.log_level": "error",
            "Det.limit_type": "min",
            "Det.limit_side_len": reader.LONG_SIDE * sides[0] / sides[1],
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        }
        theirs = RapidOCR(params=params)(np.ascontiguousarray(image[..., ::-1]))
        lines = reader.find_lines(image)
        texts = reader.read_strips([reader.straighten(image, line) for line in lines])
        assert theirs.txts is not None
        assert texts
        assert sorted(texts) == sorted(theirs.txts)
        for text, line in zip(theirs.txts, theirs.boxes, strict=True):
            assert np.abs(lines[texts.index(text)] - line).max() < 2

    def test_characters_are_the_networks_outputs(self) -> None:
        session, characters = reader._recogniser()
        answers = session.run(None, {"x": np.zeros((1, 3, 48, 320), dtype=np.float32)})[0]
        assert len(characters) == answers.shape[2] == 18710
        assert (characters[0], characters[-1]) == ("", " ")


class TestFaces:
    """The face identity."""

    def test_same_person_is_near_ruined_face_far(self) -> None:
        truth, output = face_truth()
        assert truth.mask is not None
        ruined = truth.target.copy()
        ruined[truth.mask] = np.random.default_rng(0).integers(0, 256, (int(truth.mask.sum()), 3))
        same, bad = (Measurer(["face_id"]).measure([truth], [image])[0][0].value for image in (output, ruined))
        assert same < 0.6 < bad

    def test_no_face_leaves_target_out(self) -> None:
        truth = replace(scene(), category="face")
        assert Measurer(["face_id"]).measure([truth], [truth.target]) == [[]]


def test_paste_fails_consistency_and_draft_passes() -> None:
    """What the score rests on: seam and light of the pasted reference are far worse than the draft's."""
    truth = scene()
    assert truth.reference is not None
    # The same cat seen at another size, turned and in dimmer light, as a reference is.
    other = np.ascontiguousarray((np.rot90(truth.reference) * 0.7).astype(np.uint8))
    truth = replace(truth, reference=other, reference_box=(60, 70, 150, 150))
    names = ["seam", "illumination"]
    draft, paste = (
        {s.metric: s.value for s in Measurer(names).measure([truth], [baseline_images(truth)[answer]])[0]}
        for answer in ("draft", "paste")
    )
    assert draft["seam"] < 0.5 * paste["seam"]
    assert draft["illumination"] < 0.5 * paste["illumination"]
