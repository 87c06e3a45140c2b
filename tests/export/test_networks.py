"""Exported networks give the same scores as torch, for image sizes that they were not exported with."""

import json

import numpy as np
import pytest
import torch

from wsseg.data.written import RECORD
from wsseg.errors import OutputError, StageError
from wsseg.export import networks
from wsseg.export.networks import portable, write_network
from wsseg.models.segmenter import SegmenterSpec, build_segmenter
from wsseg.outputs import Outputs


@pytest.fixture(scope="module", params=["tu-test_resnet", "tu-tf_efficientnet_lite0"])
def segmenter(request):
    """Return a network with plain padding, or with TensorFlow's padding, which depends on the input's size."""
    torch.manual_seed(0)
    spec = SegmenterSpec("fpn", request.param, {}, ("scratch", "patch"), 64, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    model = build_segmenter(spec)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return model.eval(), spec


def expected(segmenter, images):
    model, spec = segmenter
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (spec.mean, spec.std))
    with torch.no_grad():
        return model((images - mean) / std).softmax(1)


def test_a_portable_copy_gives_the_same_scores_and_does_not_change_the_network(segmenter):
    before = {name: tensor.clone() for name, tensor in segmenter[0].state_dict().items()}
    network = portable(*segmenter)
    for size in ((32, 32), (96, 160)):
        images = torch.rand(2, 3, *size)
        assert torch.allclose(network(images), expected(segmenter, images), atol=1e-4)
    after = segmenter[0].state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "torchscript", "torch_export"])
def test_a_loaded_file_gives_the_same_scores(segmenter, form, tmp_path):
    path = tmp_path / "deep" / f"x{networks.SUFFIXES[form]}"
    assert write_network(*segmenter, form, path, Outputs()) <= 1e-3
    images = torch.rand(2, 3, 128, 32)  # 32 px is the smallest side: one stride
    if form == "onnx":
        onnxruntime = pytest.importorskip("onnxruntime", reason="pip install wsseg[export]")
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        scores = torch.from_numpy(session.run(["scores"], {"images": images.numpy()})[0])
        assert json.loads(session.get_modelmeta().custom_metadata_map["wsseg"])["classes"] == [
            "background",
            "scratch",
            "patch",
        ]
    elif form == "torchscript":
        scores = torch.jit.load(str(path))(images)
    else:
        scores = torch.export.load(str(path)).module()(images)
    assert np.allclose(scores.detach(), expected(segmenter, images), atol=1e-3)
    assert json.loads(path.with_suffix(path.suffix + ".json").read_text())["output"]["shape"][1] == 3


def test_a_file_with_other_scores_is_rejected_and_the_previous_one_is_kept(segmenter, tmp_path, monkeypatch):
    def write(network, description, output):
        output.write_bytes(b"other scores")
        return lambda images: network(images) + 0.01

    monkeypatch.setitem(networks._FORMS, "onnx", write)
    outputs = Outputs()
    outputs.write(tmp_path / "x.onnx", b"former")
    with pytest.raises(StageError, match="differ from torch's by 0.01"):
        write_network(*segmenter, "onnx", tmp_path / "x.onnx", outputs)
    assert (tmp_path / "x.onnx").read_bytes() == b"former"
    assert sorted(p.name for p in tmp_path.iterdir()) == [RECORD, "x.onnx"]


@pytest.mark.parametrize("ending", ["", ".json", ".data"])
def test_a_file_of_the_user_is_kept_and_nothing_is_exported(segmenter, tmp_path, monkeypatch, ending):
    monkeypatch.setitem(networks._FORMS, "onnx", lambda *_: pytest.fail("it was exported"))
    (tmp_path / f"x.onnx{ending}").write_text("mine")
    with pytest.raises(OutputError, match="not written by wsseg"):
        write_network(*segmenter, "onnx", tmp_path / "x.onnx", Outputs())
    assert (tmp_path / f"x.onnx{ending}").read_text() == "mine"
