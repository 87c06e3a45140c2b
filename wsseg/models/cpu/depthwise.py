"""Fast training of depthwise convolutions in bfloat16 on a CPU."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class DepthwiseGradientsInFloat32(TorchFunctionMode):
    """While entered, grouped convolutions under CPU autocast compute in bfloat16 and their gradients in float32.

    oneDNN's bfloat16 gradient of a depthwise convolution is two to four times slower than its float32 gradient, which cancels
    the gain of all other layers: a step of efficientnet-lite0 (16 images, 320 px, 2 cores) takes 1.25 s in float32, 1.3 s in
    plain bfloat16 and 0.6 s in this mode (`docs/benchmarks.md`).
    """

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.conv2d:
            return _convolution(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Compute `torch.conv2d`, with `_Depthwise` if that is faster."""
    fits = groups > 1 and input.device.type == "cpu" and not isinstance(padding, str)
    if not (fits and torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16):
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
    result: Tensor = _Depthwise.apply(
        input.bfloat16(), weight.bfloat16(), _pair(stride), _pair(padding), _pair(dilation), groups
    )
    return result if bias is None else result + bias.bfloat16().view(-1, 1, 1)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
        ctx.save_for_backward(images, weight)
        ctx.options = stride, padding, dilation, groups
        return torch.conv2d(images, weight, None, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        images, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.options
        needed = (*ctx.needs_input_grad[:2], False)
        to_images, to_weight, _ = torch.ops.aten.convolution_backward(
            gradients[0].float(), images.float(), weight.float(), None,
            stride, padding, dilation, False, (0, 0), groups, needed,
        )  # fmt: skip
        lowered = (g if g is None else g.bfloat16() for g in (to_images, to_weight))
        return *lowered, None, None, None, None
