"""Compare the speed of saliency maps with grad-cam, torchcam and Captum, measured in one run.

python scripts/bench_saliency.py --json saliency.json     the table in docs/benchmarks.md
python scripts/bench_saliency.py --photographs 4 --repeats 1 --networks lite0 --sizes 224       a quick look

16 photographs of PASCAL VOC vehicles (WSSEG_DATA, or ../shared/data beside the project), efficientnet-lite0 and resnet50 with
six classes, and maps of all classes for every image. The libraries take turns; each time is the median of the repeats.
"float32": all in float32. "default": wsseg in its default precision, the others in float32, their default. wsseg is
compared with the fastest library that has the method. Score-CAM is measured on one photograph at an earlier layer (112
and 256 channels), without warm-up, and for resnet50 only at the smallest size, because the other libraries score all masked
images again for every class, which takes minutes. Deletion is measured on two photographs with 100 steps.
"""

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import timm
import torch
from scipy.integrate import trapezoid
from torch import Tensor

from wsseg.cli.options import Command, overwrite_option
from wsseg.data.reading import inspect_file, read_image
from wsseg.data.sampling import evenly_spaced
from wsseg.data.transforms import normalised
from wsseg.inspect.faithfulness import area_under, curve
from wsseg.models.classifier import Classifier
from wsseg.models.cpu.folding import folded
from wsseg.models.device import autocast, resolve_precision
from wsseg.outputs import Outputs
from wsseg.saliency.cam import multiscale_maps
from wsseg.saliency.methods import maps_of

CLASSES = 6
# with the layer for Score-CAM; the others look at what is pooled
NETWORKS = {"lite0": ("tf_efficientnet_lite0", "backbone.blocks.4"), "resnet50": ("resnet50", "backbone.layer1")}
CPU = torch.device("cpu")
Call = Callable[[], Any]


def photographs(count: int, size: int) -> Tensor:
    """Return (N, 3, size, size) normalised photographs."""
    data = Path(os.environ.get("WSSEG_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    paths = sorted((data / "voc-vehicles" / "VOC2012" / "JPEGImages").glob("*.jpg"))
    chosen = evenly_spaced(paths, count)
    images = [cv2.resize(read_image(p), (size, size), interpolation=cv2.INTER_AREA) for p in chosen]
    return torch.stack([normalised(i, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)) for i in images])


def network(name: str) -> Classifier:
    """Return a classifier with random weights, which do not affect the speed."""
    torch.manual_seed(0)
    backbone = timm.create_model(name, pretrained=False, num_classes=0, global_pool="")
    return Classifier(backbone, backbone.num_features, CLASSES).eval()


def seconds(call: Call) -> float:
    """Return the seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def ours(name: str, model: Classifier, images: Tensor, layer: str, precision: Any) -> Call:
    """Return the call of a method of wsseg, as in `make_seeds` at one scale."""
    size = (images.shape[2], images.shape[3])

    def call() -> Tensor:
        with autocast(precision, CPU):
            maps = maps_of(name, model, range(CLASSES), [layer])
            return multiscale_maps(maps, [images], False, (size[0] // 4, size[1] // 4))

    return call


def rivals(name: str, model: Classifier, images: Tensor, layer: str) -> dict[str, Call]:
    """Return the calls of the libraries that have a method, used as documented, with one call per class."""
    import pytorch_grad_cam as grad_cam
    import torchcam.methods as torchcam
    from captum.attr import LayerGradCam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    of_grad_cam = {"grad_cam": grad_cam.GradCAM, "layer_cam": grad_cam.LayerCAM, "score_cam": grad_cam.ScoreCAM}
    of_torchcam = {
        "cam": torchcam.CAM, "grad_cam": torchcam.GradCAM, "layer_cam": torchcam.LayerCAM, "score_cam": torchcam.ScoreCAM,
    }  # fmt: skip
    module = model.get_submodule(layer)
    calls: dict[str, Call] = {}

    def by_grad_cam() -> None:
        with of_grad_cam[name](model=model, target_layers=[module]) as cam:
            cam.batch_size = 32
            for channel in range(CLASSES):
                cam(input_tensor=images, targets=[ClassifierOutputTarget(channel)] * len(images))

    def by_torchcam() -> None:
        options = {"fc_layer": "head"} if name == "cam" else {}
        with of_torchcam[name](model, target_layer=layer, **options) as cam:
            scores = model(images.clone().requires_grad_())
            for channel in range(CLASSES):
                again = {"retain_graph": channel + 1 < CLASSES} if name in ("grad_cam", "layer_cam") else {}
                cam([channel] * len(images), scores, **again)

    def by_captum() -> None:
        cam = LayerGradCam(model, module)
        for channel in range(CLASSES):
            cam.attribute(images, target=channel, relu_attributions=True)

    if name in of_grad_cam:
        calls["grad-cam"] = by_grad_cam
    if name in of_torchcam:
        calls["torchcam"] = by_torchcam
    if name == "grad_cam":
        calls["captum"] = by_captum
    return calls


def rise_loop(model: Classifier, images: Tensor, maps: Tensor, steps: int) -> list[float]:
    """Compute deletion as in RISE's code (Petsiuk et al. 2018, evaluation.py), one image and one step at a time."""
    found = []
    for image, saliency in zip(images, maps, strict=True):
        places = saliency.numel()
        order = np.flip(np.argsort(saliency.numpy().ravel()), axis=-1)
        start, scores = image[None].clone(), []
        for step in range(steps + 1):
            with torch.no_grad():
                scores.append(float(model(start)[0, 0].sigmoid()))
            if step < steps:
                taken = order[places * step // steps : places * (step + 1) // steps].copy()
                start.view(1, 3, -1)[:, :, taken] = 0
        found.append(float(trapezoid(scores) / steps))
    return found


def measure(runs: dict[str, Call], repeats: int) -> dict[str, float]:
    """Return the median time of each call; calls take turns, after one warm-up call each.

    Only the first call is measured if there are no repeats, or if it is five times slower than the fastest library.
    """
    first = {name: seconds(call) for name, call in runs.items()}
    fastest = min(first[name] for name in runs if name not in ("float32", "default"))
    times: dict[str, list[float]] = {name: [taken] for name, taken in first.items()}
    again = [name for name, taken in first.items() if repeats and taken < 5 * fastest]
    for name in again:
        times[name].clear()
    for _ in range(repeats):
        for name in again:
            times[name].append(seconds(runs[name]))
    return {name: statistics.median(values) for name, values in times.items()}


def compared(name: str, mine: dict[str, Call], theirs: dict[str, Call], images: int, repeats: int) -> dict[str, float]:
    """Return the table row of a method for one network and size."""
    taken = measure({**mine, **theirs}, repeats)
    best = min(taken[rival] for rival in theirs)
    row = {
        "speedup_float32": best / taken["float32"],
        "speedup_default": best / taken["default"],
        "ms_per_image": 1000 * taken["default"] / images,
        **{f"{rival}_ms_per_image": 1000 * taken[rival] / images for rival in theirs},
    }
    click.echo(f"{name:32} " + "  ".join(f"{k} {v:.1f}" for k, v in row.items()))
    return row


def share_in_forward() -> dict[str, float]:
    """Return the fraction of `make_seeds`' time in the network's forward pass, on photographs, including files."""
    from wsseg.data.images import LabeledImages
    from wsseg.labels import ClassMap
    from wsseg.models.weights import network_bytes
    from wsseg.stages.make_seeds.config import Config
    from wsseg.stages.make_seeds.stage import MakeSeeds
    from wsseg.types import LabeledImage

    data = Path(os.environ.get("WSSEG_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    paths = sorted((data / "voc-vehicles" / "VOC2012" / "JPEGImages").glob("*.jpg"))[:384]
    names = tuple(f"class {i}" for i in range(CLASSES))
    items = [
        LabeledImage(p.stem, p, (1 + i % CLASSES,), read_image(p).shape[:2], inspect_file(p).sha256)
        for i, p in enumerate(paths)
    ]
    model = network("tf_efficientnet_lite0")
    inside = [0.0]
    features = Classifier.features

    def timed(self: Classifier, images: Tensor) -> Tensor:
        start = time.perf_counter()
        result = features(self, images)
        inside[0] += time.perf_counter() - start
        return result

    class Stored:
        """A classifier artifact without files."""

        folder = "bench"

        def read_bytes(self, name: str) -> bytes:
            if name.endswith(".json"):
                spec = {"backbone": "tf_efficientnet_lite0", "classes": names, "mean": [0.5] * 3, "std": [0.5] * 3}
                return json.dumps(spec).encode()
            return network_bytes(model)

    Classifier.features = timed  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder:
            images = LabeledImages("train", ClassMap(names), tuple(items), {}, "")
            total = seconds(lambda: MakeSeeds().run(Config(), {"images": images, "classifier": Stored()}, Path(folder)))
    finally:
        Classifier.features = features  # type: ignore[method-assign]
    return {"share_in_forward": inside[0] / total, "ms_per_image": 1000 * total / len(items)}


@click.command(cls=Command)
@click.option("--json", "output", type=click.Path(path_type=Path), help="File for the measurements.")
@click.option("--photographs", "count", default=16, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--networks", default="lite0,resnet50", show_default=True)
@click.option("--sizes", default="224,448", show_default=True)
@click.option("--methods", default="cam,grad_cam,layer_cam,score_cam,deletion,make_seeds", show_default=True)
@overwrite_option
def main(
    output: Path | None, count: int, repeats: int, networks: str, sizes: str, methods: str, overwrite: bool
) -> None:
    """Measure, print and write the results."""
    outputs = Outputs(overwrite=overwrite)
    outputs.check([output] if output else [])
    click.echo(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"default precision {resolve_precision('auto', CPU) or 'float32'}"
    )
    rows: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    all_sizes = [int(s) for s in sizes.split(",")]
    for short in networks.split(","):
        backbone, early = NETWORKS[short]
        plain, model = network(backbone), folded(network(backbone), torch.zeros(1, 3, 64, 64))
        model = model.to(memory_format=torch.channels_last)
        for size in all_sizes:
            images = photographs(count, size)
            for method in methods.split(","):
                if method == "make_seeds" or (method == "score_cam" and short == "resnet50" and size != min(all_sizes)):
                    continue
                place, repeated = f"{short} {size}", repeats
                if method == "deletion":
                    some = images[:2]
                    maps = torch.rand(some.shape[0], size, size, generator=torch.Generator().manual_seed(0))

                    def score(batch: Tensor, model: Classifier = model) -> Tensor:
                        return model(batch.contiguous(memory_format=torch.channels_last))[:, 0].sigmoid()

                    def run(precision: Any, some: Tensor = some, maps: Tensor = maps, score: Any = score) -> Call:
                        def call() -> None:
                            with autocast(precision, CPU):
                                area_under(curve(score, some, maps, "deletion", "zero", 100))

                        return call

                    mine = {"float32": run("float32"), "default": run("auto")}
                    theirs: dict[str, Call] = {"rise": lambda s=some, m=maps, p=plain: rise_loop(p, s, m, 100)}  # type: ignore[misc]
                    shown = len(some)
                else:
                    some, layer = (images[:1], early) if method == "score_cam" else (images, "last")
                    repeated = 0 if method == "score_cam" else repeats
                    mine = {
                        n: ours(method, model, some, layer, p) for n, p in (("float32", "float32"), ("default", "auto"))
                    }
                    theirs, shown = rivals(method, plain, some, layer), len(some)
                rows[method][place] = compared(f"{method} {place}", mine, theirs, shown, repeated)
    report: dict[str, Any] = {}
    for method, places in rows.items():
        keys = ("speedup_float32", "speedup_default", "ms_per_image")
        report[method] = {key: statistics.median(row[key] for row in places.values()) for key in keys}
        report[method] |= {f"worst_{key}": min(row[key] for row in places.values()) for key in keys[:2]}
        report[method]["places"] = places
    if "make_seeds" in methods.split(","):
        report["make_seeds"] = share_in_forward()
        click.echo(
            f"make_seeds: {100 * report['make_seeds']['share_in_forward']:.1f} % of the time in the forward pass"
        )
    for method, row in report.items():
        if "speedup_default" in row:
            click.echo(
                f"{method:12} float32 {row['speedup_float32']:.1f}x (worst {row['worst_speedup_float32']:.1f}x), "
                f"default {row['speedup_default']:.1f}x (worst {row['worst_speedup_default']:.1f}x)"
            )
    if output is not None:
        found = {"machine": platform.machine(), "python": sys.version.split()[0], **report}
        outputs.write(output, (json.dumps(found, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
