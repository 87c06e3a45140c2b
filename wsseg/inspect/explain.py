"""Saliency maps of photographs with a trained classifier, as ``wsseg explain`` writes them."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PILImage

from wsseg.data.batches import at_size, network_size
from wsseg.data.photographs import open_images
from wsseg.data.transforms import normalised
from wsseg.errors import StageError
from wsseg.inspect.pictures import overlay, panel, sheet
from wsseg.models.classifier import Classifier, ClassifierSpec
from wsseg.models.device import resolve_device
from wsseg.outputs import Outputs
from wsseg.saliency.cam import multiscale_maps, normalise
from wsseg.saliency.methods import maps_of
from wsseg.saliency.targets import Target
from wsseg.types import Image


@dataclass(frozen=True)
class Request:
    """Options of an explanation.

    Args:
        methods: names in `wsseg.saliency.methods.METHODS`.
        classes: class names; empty for the classes with a probability of at least 0.5, or else the most probable class.
        layers: layers for the CAM family; empty for the pooled layer.
        target: target of gradients.
        size: long side in pixels at scale 1.
        scales: scales over which maps are averaged.
        flip: whether maps are also averaged over the mirrored image.
        compare: one sheet per image and class instead of one picture per method.
    """

    methods: tuple[str, ...]
    classes: tuple[str, ...]
    layers: tuple[str, ...]
    target: Target
    size: int
    scales: tuple[float, ...]
    flip: bool
    compare: bool


@dataclass(frozen=True)
class Explanation:
    """Maps of one photograph.

    Args:
        class_ids: ids of the C classes.
        names: names of the classes.
        scores: (C,) probabilities of the classes.
        maps: by method, (C, h, w) float32 in [0, 1], each divided by its maximum.
    """

    class_ids: tuple[int, ...]
    names: tuple[str, ...]
    scores: tuple[float, ...]
    maps: dict[str, NDArray[np.float32]]


def explain(model: Classifier, spec: ClassifierSpec, image: Image, request: Request) -> Explanation:
    """Return the maps of one photograph (H, W, 3) uint8.

    Raises:
        StageError: unknown class, method or layer.
    """
    unknown = [name for name in request.classes if name not in spec.classes]
    if unknown:
        raise StageError(f"classes: found {unknown[0]!r}; expected: {', '.join(spec.classes)}")
    size = (image.shape[0], image.shape[1])
    tensor = normalised(image, spec.mean, spec.std)[None].to(model.head.weight.device)
    inputs = [at_size(tensor, network_size(size, request.size, scale)) for scale in request.scales]
    with torch.no_grad():
        probabilities = torch.sigmoid(model(inputs[0]))[0]
    names = request.classes or tuple(n for n, p in zip(spec.classes, probabilities, strict=True) if p >= 0.5)
    names = names or (spec.classes[int(probabilities.argmax())],)
    channels = [spec.classes.index(name) for name in names]
    maps = {}
    for method in request.methods:
        maps_of_batch = maps_of(method, model, channels, request.layers, request.target)
        cams = multiscale_maps(maps_of_batch, inputs, request.flip, (-(-size[0] // 4), -(-size[1] // 4)))
        maps[method] = normalise(cams[0]).cpu().numpy()
    return Explanation(tuple(c + 1 for c in channels), names, tuple(float(probabilities[c]) for c in channels), maps)


def explain_files(
    model: Classifier, spec: ClassifierSpec, files: Mapping[str, Path], output: Path, request: Request, outputs: Outputs
) -> tuple[int, list[tuple[Path, str]]]:
    """Write pictures and raw maps of photographs, by id.

    ``<id>.<class id>-<class>.<method>.png`` (or ``<id>.<class id>-<class>.png`` with `compare`), and ``<id>.npz`` with
    the arrays ``<method>`` (C, h, w) float32 in [0, 1] and ``classes``.

    Returns:
        The number of explained photographs, and the unreadable files with the reason.

    Raises:
        OutputError: a file would replace an input or a file of the user; this is checked before anything is computed.
    """
    names = request.classes or spec.classes  # those of a photograph are not known yet
    endings = [
        ending for name in names if name in spec.classes for ending in _endings(spec.classes.index(name), name, request)
    ]
    outputs.check(output / f"{item_id}{ending}" for item_id in files for ending in (".npz", *endings))
    model = model.to(resolve_device("auto"), memory_format=torch.channels_last)  # type: ignore[call-overload]
    refused: list[tuple[Path, str]] = []
    written = 0
    for item_id, image in open_images(files, "explanations", refused):
        explanation = explain(model, spec, image, request)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, classes=np.array(explanation.names), **explanation.maps)
        outputs.write(output / f"{item_id}.npz", buffer.getvalue())
        for index, (class_id, name, score) in enumerate(
            zip(explanation.class_ids, explanation.names, explanation.scores, strict=True)
        ):
            panels = {
                method: panel(overlay(image, maps[index]), f"{name} {score:.2f}  {method}")
                for method, maps in explanation.maps.items()
            }
            if request.compare:
                first = panel(image, f"{item_id}: {name}, score {score:.2f}")
                pictures = [sheet([first, *panels.values()], _columns(len(panels) + 1))]
            else:
                pictures = list(panels.values())
            for ending, picture in zip(_endings(class_id - 1, name, request), pictures, strict=True):
                outputs.write(output / f"{item_id}{ending}", _png(picture))
        written += 1
    return written, refused


def _columns(count: int) -> int:
    return min(count, max(2, math.isqrt(count)))


def _endings(channel: int, name: str, request: Request) -> list[str]:
    """Return the endings, after the image's id, of the file names of a class's pictures."""
    label = f"{channel + 1}-" + "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
    return [f".{label}.png"] if request.compare else [f".{label}.{method}.png" for method in request.methods]


def _png(picture: Image) -> bytes:
    buffer = io.BytesIO()
    PILImage.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def parsed(text: str, expected: Sequence[str], what: str) -> tuple[str, ...]:
    """Return the names in a text that separates them by commas.

    Raises:
        StageError: a name is not expected.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in expected:
            raise StageError(f"{what}: found {name!r}; expected: {', '.join(expected)}")
    return names
