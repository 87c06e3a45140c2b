"""Export of a segmenter as one file that runs without wsseg."""

import copy
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.fx.experimental import _config as export_config

from wsseg.errors import StageError, extra
from wsseg.models.cpu.folding import folded
from wsseg.models.segmenter import SegmenterSpec
from wsseg.outputs import Outputs

STRIDE = 32  # px; heights and widths of the input are multiples of it
TOLERANCE = 1e-3  # largest difference of a score, in [0, 1], between an exported network and torch
_ANY_SIZE = hasattr(
    export_config, "backed_size_oblivious"
)  # older versions of torch export no network for sides of 32 px
_PROBES = (
    (1, 64, 160),
    (3, 96, 64),
    *([(1, 32, 32), (2, 64, 32)] if _ANY_SIZE else []),
)  # (N, H, W) of the images that a file is tested with
_LONGEST = 8192  # px


class Portable(nn.Module):
    """A segmenter that includes the normalisation of its input.

    Input: (N, 3, H, W) float32 RGB in [0, 1]; H and W are multiples of 32. Output: scores (N, K + 1, H, W) float32, background
    first, which sum to 1 over the classes.
    """

    def __init__(self, model: nn.Module, spec: SegmenterSpec) -> None:
        super().__init__()
        self.model = model
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.model((images - self.mean) / self.std).softmax(1)
        return scores


def portable(model: nn.Module, spec: SegmenterSpec) -> Portable:
    """Return a copy of a segmenter that all exporters support; it gives the same scores for inputs of a valid size."""
    network = folded(copy.deepcopy(model).cpu().float().eval(), torch.zeros(1, 3, 64, 64))
    return Portable(_with_constant_padding(network), spec).eval()


def _with_constant_padding(model: nn.Module) -> nn.Module:
    """Replace TensorFlow's padding, which depends on the input's size, by its constant value for multiples of the stride."""
    for name, child in list(model.named_children()):
        if not isinstance(child, Conv2dSame):
            _with_constant_padding(child)
            continue
        height, width = (
            max(d * (k - 1) + 1 - s, 0) for k, s, d in zip(child.kernel_size, child.stride, child.dilation, strict=True)
        )
        plain = nn.Conv2d(
            child.in_channels, child.out_channels, child.kernel_size, child.stride,  # type: ignore[arg-type]
            dilation=child.dilation, groups=child.groups, bias=child.bias is not None,  # type: ignore[arg-type]
        )  # fmt: skip
        plain.load_state_dict(child.state_dict())
        sides = (width // 2, width - width // 2, height // 2, height - height // 2)
        setattr(model, name, nn.Sequential(nn.ZeroPad2d(sides), plain))
    return model.eval()


def write_network(model: nn.Module, spec: SegmenterSpec, form: str, output: Path, outputs: Outputs) -> float:
    """Export a segmenter, load the file, and compare it with torch for image sizes that it was not exported with.

    Args:
        model: a segmenter.
        spec: its description.
        form: ``onnx``, ``torchscript`` or ``torch_export``.
        output: the file; a second file with ``.json`` appended to its name describes classes, input and output.
        outputs: moves the files into place after the comparison.

    Returns:
        The largest difference of a score.

    Raises:
        MissingExtraError: a package of the format is not installed.
        StageError: the network cannot be exported, or its scores differ by more than 0.001.
        OutputError: a file of the user would be replaced.
    """
    outputs.check([output, *(output.with_name(output.name + ending) for ending in (".data", ".json"))])
    network = portable(model, spec)
    description = describe(spec)
    with outputs.made_beside(output) as made, _quiet():
        try:
            with extra("export", form):
                run = _FORMS[form](network, description, made)
        except (RuntimeError, TypeError, ValueError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise StageError(f"{form}: this network cannot be exported: {reason}") from error
        difference = 0.0
        generator = torch.Generator().manual_seed(0)
        for count, height, width in _PROBES:
            images = torch.rand(count, 3, height, width, generator=generator)
            with torch.inference_mode():
                expected = network(images)
            difference = max(difference, float((run(images) - expected).abs().max()))
        if not difference <= TOLERANCE:
            raise StageError(
                f"{output}: the exported scores differ from torch's by {difference:.2g}; expected: at most {TOLERANCE:g}; "
                "the file was not written"
            )
        text = json.dumps(description, indent=1) + "\n"
        made.with_name(made.name + ".json").write_text(text, encoding="utf-8")
    return difference


def describe(spec: SegmenterSpec) -> dict[str, Any]:
    """Return the description of an exported file: its input, output and classes."""
    return {
        "input": {"name": "images", "shape": ["N", 3, "H", "W"], "dtype": "float32", "range": [0, 1], "colours": "RGB",
                  "multiple_of": STRIDE, "trained_at": spec.size},
        "output": {"name": "scores", "shape": ["N", len(spec.classes) + 1, "H", "W"], "dtype": "float32", "sum_over_classes": 1},
        "classes": ["background", *spec.classes],
    }  # fmt: skip


def _write_onnx(network: Portable, description: dict[str, Any], output: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    program = torch.onnx.export(
        _exported(network), dynamo=True, input_names=["images"], output_names=["scores"], verbose=False
    )  # fmt: skip
    if program is None:
        raise RuntimeError("the exporter returned nothing")
    program.model.metadata_props["wsseg"] = json.dumps(description)
    program.save(str(output))
    session = onnxruntime.InferenceSession(str(output), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def _write_torchscript(network: Portable, description: dict[str, Any], output: Path) -> Callable[[Tensor], Tensor]:
    with torch.no_grad():
        traced = torch.jit.trace(network, torch.rand(2, 3, 64, 96))  # type: ignore[no-untyped-call]
    torch.jit.save(traced, str(output), _extra_files={"wsseg.json": json.dumps(description)})
    loaded = torch.jit.load(str(output))  # type: ignore[no-untyped-call]
    return lambda images: loaded(images)


def _write_torch_export(network: Portable, description: dict[str, Any], output: Path) -> Callable[[Tensor], Tensor]:
    torch.export.save(_exported(network), str(output), extra_files={"wsseg.json": json.dumps(description)})
    module = torch.export.load(str(output)).module()
    return lambda images: module(images)


def _exported(network: Portable) -> Any:
    """Return a torch.export program for any number of images, with heights and widths that are multiples of 32."""
    most = _LONGEST // STRIDE
    height, width = (torch.export.Dim(name, min=1, max=most) for name in ("height", "width"))
    shapes = ({0: torch.export.Dim.DYNAMIC, 2: STRIDE * height, 3: STRIDE * width},)
    # without this option the program rejects sides of 32 px: a dimension of one stride is treated as broadcast
    one_step = export_config.patch(backed_size_oblivious=True) if _ANY_SIZE else nullcontext()  # type: ignore[attr-defined]
    with torch.no_grad(), one_step:
        return torch.export.export(network, (torch.rand(2, 3, 96, 128),), dynamic_shapes=shapes)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence log messages and warnings of the exporters, such as the deprecation of tracing."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


_FORMS: dict[str, Callable[[Portable, dict[str, Any], Path], Callable[[Tensor], Tensor]]] = {
    "onnx": _write_onnx,
    "torchscript": _write_torchscript,
    "torch_export": _write_torch_export,
}
SUFFIXES = {"onnx": ".onnx", "torchscript": ".pt", "torch_export": ".pt2"}
