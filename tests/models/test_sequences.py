"""Networks for sequences: shapes, reach, normalisation, and what their specs accept."""

import json
from dataclasses import asdict

import pytest
import torch

from wsseg.data.sequences import LETTERS, mirror_axes
from wsseg.errors import StageError
from wsseg.models.classifier import ClassifierSpec, build_classifier, input_statistics, load_classifier
from wsseg.models.segmenter import SegmenterSpec, build_segmenter, segment
from wsseg.models.sequences import BACKBONES, SequenceNetwork
from wsseg.models.weights import network_bytes, spec_values
from wsseg.saliency.cam import multiscale_maps


def classifier_spec(backbone="cnn_1d", channels=LETTERS):
    mean, std = input_statistics(backbone, channels)
    return ClassifierSpec(backbone, ("a", "b"), mean, std, pooling="lse", channels=channels)


def segmenter_spec(channels=LETTERS):
    count = len(channels)
    return SegmenterSpec("unet_1d", "unet_1d", {}, ("a", "b"), 64, (0.0,) * count, (1.0,) * count, channels)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_class_maps_have_the_resolution_of_the_sequence(backbone):
    model = build_classifier(classifier_spec(backbone)).eval()
    images = torch.zeros(2, 4, 1, 37)
    assert model.class_maps(images).shape == (2, 2, 1, 37)
    assert model(images).shape == (2, 2)


@pytest.mark.parametrize(("backbone", "places"), [("cnn_1d", 19), ("dilated_1d", 75)])
def test_a_place_sees_as_far_as_the_docstring_says(backbone, places):
    torch.manual_seed(0)
    model = SequenceNetwork(backbone, LETTERS).eval()
    images = torch.randn(1, 4, 1, 201, requires_grad=True)
    model(images)[0, :, 0, 100].sum().backward()
    seen = images.grad.abs().sum(1).flatten().nonzero().flatten()
    assert int(seen.max() - seen.min()) + 1 == places


def test_the_logit_is_the_log_sum_exp_of_the_class_map():
    torch.manual_seed(0)
    model = build_classifier(classifier_spec()).eval()
    model.head.weight.data.normal_()
    images = torch.randn(3, 4, 1, 50)
    maps = model.class_maps(images).flatten(2)
    torch.testing.assert_close(model(images), maps.exp().mean(2).log())


def test_signals_of_any_unit_give_the_same_result():
    torch.manual_seed(0)
    model = build_classifier(classifier_spec(channels=("C3", "C4", "Cz"))).train()
    volts = torch.randn(4, 3, 1, 60) * 1e-5
    torch.testing.assert_close(model(volts), model(volts * 1e6), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("length", [1, 7, 64, 101])
def test_the_unet_accepts_any_length(length):
    model = build_segmenter(segmenter_spec()).eval()
    assert model(torch.zeros(1, 4, 1, length)).shape == (1, 3, 1, length)


def test_a_network_is_loaded_again_from_its_files():
    spec = classifier_spec("dilated_1d")
    model = build_classifier(spec).eval()
    files = {"network.json": json.dumps(spec_values(spec)).encode(), "network.safetensors": network_bytes(model)}
    loaded, again = load_classifier(files.__getitem__, "here")
    images = torch.randn(1, 4, 1, 30)
    assert again == spec
    torch.testing.assert_close(loaded(images), model(images))


def test_network_json_of_photographs_has_no_channels():
    spec = ClassifierSpec("test_resnet", ("a",), (0.5,) * 3, (0.5,) * 3)
    assert spec_values(spec) == {k: v for k, v in asdict(spec).items() if k != "channels"}


@pytest.mark.parametrize(
    ("backbone", "channels", "message"),
    [
        ("tf_efficientnet_lite0", LETTERS, "found 'tf_efficientnet_lite0'; expected for sequences: cnn_1d, dilated_1d"),
        ("cnn_1d", (), "'cnn_1d' is for sequences"),
    ],
)
def test_a_backbone_that_does_not_fit_is_one_line(backbone, channels, message):
    with pytest.raises(StageError, match=message):
        input_statistics(backbone, channels)


def test_maps_and_scores_of_dna_do_not_depend_on_the_strand():
    torch.manual_seed(0)
    model = build_classifier(classifier_spec()).eval()
    unet = build_segmenter(segmenter_spec()).eval()
    bases = torch.randint(0, 4, (40,))
    images = torch.nn.functional.one_hot(bases, 4).T[None, :, None].float()
    other = torch.nn.functional.one_hot(3 - bases.flip(0), 4).T[None, :, None].float()

    def cam(batch):
        return model.class_maps(batch).relu()

    mirror = mirror_axes(LETTERS)
    maps = [multiscale_maps(cam, [x], True, (1, 40), mirror) for x in (images, other)]
    torch.testing.assert_close(maps[0], maps[1].flip(3))
    scores = [segment(unet, [x], (1, 40), True, mirror) for x in (images, other)]
    torch.testing.assert_close(scores[0], scores[1].flip(3), rtol=1e-4, atol=1e-5)
    signal = multiscale_maps(cam, [images], True, (1, 40), mirror_axes(("C3", "C4", "Cz", "Pz")))
    torch.testing.assert_close(signal, cam(images))
