from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import nn

from wsseg.errors import StageError
from wsseg.models.segmenter import SegmenterSpec
from wsseg.outputs import Outputs
from wsseg.stages.predict_masks import prediction as prediction_module
from wsseg.stages.predict_masks.config import Config
from wsseg.stages.predict_masks.prediction import Predictor, predict_files, suppressed

SPEC = SegmenterSpec("fpn", "tu-test_resnet", {}, ("red", "blue"), 64, (0.5,) * 3, (0.5,) * 3)


class Constant(nn.Module):
    """Gives each pixel the same logits: background, red, blue. It has no layers to fold."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits[None, :, None, None].expand(len(images), 3, *images.shape[2:]) + 0 * images[:, :1]


class FixedClassifier(nn.Module):
    """A classifier with the same logits for each image."""

    def __init__(self, red: float, blue: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([red, blue]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(images), 2)


def test_suppressed_by_hand():
    scores = torch.tensor([0.2, 0.3, 0.5]).reshape(1, 3, 1, 1)
    result = suppressed(scores, torch.tensor([[0.9, 0.05]]), 0.1)
    assert result.flatten().tolist() == pytest.approx([0.4, 0.6, 0.0])


@pytest.mark.parametrize(("red", "blue", "expected"), [(5.0, 5.0, 2), (5.0, -5.0, 1), (-5.0, -5.0, 0)])
def test_a_class_with_a_low_probability_is_not_predicted(red, blue, expected):
    config = Config(crf="off", min_class_probability=0.1, device="cpu")
    predictor = Predictor(Constant(0.0, 1.0, 2.0), SPEC, config, FixedClassifier(red, blue))
    assert (predictor.predict([np.zeros((48, 64, 3), np.uint8)])[0].mask == expected).all()


def test_suppression_without_a_classifier_is_rejected():
    with pytest.raises(StageError, match="recipe gives this step none"):
        Predictor(Constant(0.0, 1.0, 2.0), SPEC, Config(min_class_probability=0.1))


@pytest.mark.parametrize("crf", ["off", "deeplab"])
def test_confidence_is_the_probability_of_the_class_in_percent(crf):
    """Logits 0, 1, 2 give blue a probability of 0.665; a dense CRF increases it, because all pixels agree."""
    prediction = Predictor(Constant(0.0, 1.0, 2.0), SPEC, Config(crf=crf, device="cpu")).predict(
        [np.zeros((48, 63, 3), np.uint8)]
    )[0]
    assert prediction.confidence.shape == (6, 8) and prediction.confidence.dtype == np.uint8
    assert (prediction.confidence == 67).all() if crf == "off" else (prediction.confidence > 67).all()


def test_an_image_of_one_pixel_has_a_confidence():
    prediction = Predictor(Constant(0.0, 1.0, 2.0), SPEC, Config(crf="off", device="cpu")).predict(
        [np.zeros((1, 1, 3), np.uint8)]
    )[0]
    assert prediction.confidence.tolist() == [[67]]


def test_probability_maps_have_the_size_of_their_image_and_255_is_certain(tmp_path: Path):
    """Blue has a probability of 0.665, odds of 1.987; the temperature 0.5 squares the odds, which is 0.798."""
    photograph = tmp_path / "photos" / "sub" / "a.png"
    photograph.parent.mkdir(parents=True)
    PILImage.new("RGB", (53, 21)).save(photograph)
    predictor = Predictor(Constant(0.0, 1.0, 2.0), SPEC, Config(crf="off", device="cpu"))
    for temperature, value in ((1.0, round(255 * 0.6652)), (0.5, round(255 * 0.798))):
        folders = tmp_path / f"masks{temperature}", tmp_path / f"maps{temperature}"
        doubts, unreadable = predict_files(
            predictor, {"sub/a": photograph}, folders[0], Outputs(), folders[1], temperature
        )
        assert not unreadable and [d.image_id for d in doubts] == ["sub/a"]
        with PILImage.open(folders[1] / "sub" / "a.png") as image:
            assert image.size == (53, 21) and image.mode == "L" and set(np.asarray(image).ravel().tolist()) == {value}
        assert (folders[1] / "doubt.csv").read_text().splitlines()[1].startswith("sub/a,")
        with PILImage.open(folders[0] / "sub" / "a.png") as image:
            assert (np.asarray(image) == 2).all()  # scaling never changes a mask


def test_without_a_folder_for_maps_only_masks_are_written(tmp_path: Path):
    PILImage.new("RGB", (8, 8)).save(tmp_path / "a.png")
    predictor = Predictor(Constant(0.0, 1.0, 2.0), SPEC, Config(crf="off", device="cpu"))
    predict_files(predictor, {"a": tmp_path / "a.png"}, tmp_path / "masks", Outputs())
    assert sorted(p.name for p in tmp_path.rglob("*.png")) == ["a.png", "a.png"]


def test_the_crf_works_at_its_own_size_and_masks_have_that_of_the_photograph():
    photograph = np.random.default_rng(0).integers(0, 255, (90, 200, 3)).astype(np.uint8)
    seen = []

    class Seen(prediction_module.DenseCrf):
        def __init__(self, image, *args):
            seen.append(image.shape)
            super().__init__(image, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prediction_module, "DenseCrf", Seen)
        for size in (None, 100):
            config = Config(crf="deeplab", crf_size=size, device="cpu")
            (result,) = Predictor(Constant(0.0, 1.0, 2.0), SPEC, config).predict([photograph])
            assert result.mask.shape == result.probability.shape == (90, 200) and (result.mask == 2).all()
    assert seen == [(90, 200, 3), (45, 100, 3)]
