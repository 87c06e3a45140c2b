import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import nn

from wsseg.data.photographs import photograph_files
from wsseg.data.written import RECORD
from wsseg.errors import DatasetError, OutputError, StageError
from wsseg.inspect.explain import Request, explain, explain_files, parsed
from wsseg.inspect.pictures import heat, overlay, panel, sheet
from wsseg.models.classifier import Classifier, ClassifierSpec
from wsseg.outputs import Outputs

SPEC = ClassifierSpec("pixels", ("red", "b/lue <b>"), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
REQUEST = Request(("cam", "grad_cam"), (), ("backbone.same",), "logit", 64, (1.0, 2.0), True, False)


class Pixels(nn.Module):
    """A backbone whose features are the image's own channels, stride 2."""

    def __init__(self):
        super().__init__()
        self.same = nn.Identity()

    def forward_features(self, images):
        return self.same(nn.functional.avg_pool2d(images, 2))


@pytest.fixture
def model():
    network = Classifier(Pixels(), 3, 2)
    with torch.no_grad():
        network.head.weight.copy_(torch.tensor([[9.0, -9.0, -9.0], [-9.0, -9.0, 9.0]])[:, :, None, None])
    return network.eval()


@pytest.fixture
def photograph():
    image = np.zeros((48, 64, 3), np.uint8)
    image[8:24, 40:60, 0] = 250
    return image


def test_maps_lie_where_the_class_is(model, photograph):
    explanation = explain(model, SPEC, photograph, REQUEST)
    assert explanation.names == ("red",) and explanation.class_ids == (1,) and explanation.scores[0] > 0.5
    for maps in explanation.maps.values():
        assert maps.shape == (1, 12, 16) and maps.max() == 1
        y, x = np.unravel_index(maps[0].argmax(), maps[0].shape)
        assert 2 <= y < 6 and 10 <= x < 15


def test_files_of_a_folder(model, photograph, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    PILImage.fromarray(photograph).save(tmp_path / "in" / "deep" / "a.png")
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    both = Request(("cam", "grad_cam"), SPEC.classes, ("backbone.same",), "logit", 64, (1.0,), True, False)
    written, refused = explain_files(model, SPEC, photograph_files(tmp_path / "in"), tmp_path / "out", both, Outputs())
    assert written == 1 and [path.name for path, _ in refused] == ["broken.png"]
    made = sorted(
        p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*") if p.name != RECORD
    )
    assert made == [
        "deep/a.1-red.cam.png", "deep/a.1-red.grad_cam.png", "deep/a.2-b_lue__b_.cam.png",
        "deep/a.2-b_lue__b_.grad_cam.png", "deep/a.npz",
    ]  # fmt: skip
    with np.load(tmp_path / "out" / "deep" / "a.npz", allow_pickle=False) as arrays:
        assert arrays["classes"].tolist() == list(SPEC.classes) and arrays["cam"].shape == (2, 12, 16)


def test_one_sheet_of_all(model, photograph, tmp_path):
    PILImage.fromarray(photograph).save(tmp_path / "a.png")
    request = Request(("cam", "grad_cam", "hires_cam"), ("red",), ("backbone.same",), "logit", 64, (1.0,), True, True)
    explain_files(model, SPEC, photograph_files(tmp_path / "a.png"), tmp_path / "out", request, Outputs())
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [RECORD, "a.1-red.png", "a.npz"]


@pytest.mark.parametrize("name", ["a.npz", "a.2-b_lue__b_.cam.png"])  # whichever class will be seen
def test_a_file_of_the_user_stays_and_nothing_is_computed(model, photograph, tmp_path, name, monkeypatch):
    monkeypatch.setattr("wsseg.inspect.explain.explain", lambda *_: pytest.fail("it was explained"))
    PILImage.fromarray(photograph).save(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(OutputError, match="not written by wsseg"):
        explain_files(model, SPEC, photograph_files(tmp_path / "a.png"), tmp_path / "out", REQUEST, Outputs())
    assert (tmp_path / "out" / name).read_text() == "mine"


def test_mistakes_are_named(model, photograph, tmp_path):
    with pytest.raises(StageError, match="classes: found 'green'; expected: red, b/lue <b>"):
        explain(model, SPEC, photograph, Request(("cam",), ("green",), (), "logit", 64, (1.0,), True, False))
    with pytest.raises(StageError, match="method: found 'came'; expected: cam, x"):
        parsed("cam, came", ["cam", "x"], "method")
    with pytest.raises(DatasetError, match="no image was found"):
        photograph_files(tmp_path)


def test_pictures_by_hand():
    assert heat(np.array([[0.0, 1.0]], np.float32)).tolist() == [[[68, 1, 84], [253, 231, 37]]]  # viridis' ends
    image = np.full((20, 30, 3), 100, np.uint8)
    assert overlay(image, np.zeros((5, 6), np.float32), opacity=0.0).tolist() == image.tolist()
    framed = panel(image, "a title that is much too long for so small a picture")
    assert framed.shape[0] > 20 and framed.shape[1] > 30
    assert sheet([framed, framed, framed], 2).shape == (2 * framed.shape[0], 2 * framed.shape[1], 3)
