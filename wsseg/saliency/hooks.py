"""Outputs of layers, recorded or replaced during a forward pass, with hooks that are always removed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from wsseg.errors import StageError
from wsseg.saliency.forward import tensors_in


@contextmanager
def replaced(layers: Sequence[nn.Module], change: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
    """Replace the outputs of layers by ``change(index, output)`` within the context.

    Raises:
        StageError: a layer's output is neither a tensor nor a tuple or list with exactly one tensor.
    """

    def hook(index: int) -> Callable[[nn.Module, object, object], object]:
        def changed(module: nn.Module, inputs: object, output: object) -> object:
            if isinstance(output, Tensor):
                return change(index, output)
            if type(output) in (tuple, list) and len(tensors_in(output)) == 1:
                return type(output)(change(index, v) if isinstance(v, Tensor) else v for v in output)  # type: ignore
            raise StageError(
                f"saliency: {type(module).__name__} returns {type(output).__name__}; "
                "expected: a tensor, or a tuple or list with one tensor; choose a layer inside or after it"
            )

        return changed

    with ExitStack() as stack:
        for index, layer in enumerate(layers):
            stack.callback(layer.register_forward_hook(hook(index)).remove)
        yield


@contextmanager
def recorded(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Yield a list that holds the layers' latest outputs, each of which requires a gradient.

    The entry of a layer that has not run is an empty tensor.
    """
    outputs: list[Tensor] = [torch.empty(0)] * len(layers)

    def keep(index: int, output: Tensor) -> Tensor:
        if not output.is_floating_point():
            raise StageError(f"saliency: a layer returns {output.dtype}; expected: floating-point values")
        # a copy, because a later layer may work in place
        outputs[index] = output if output.requires_grad else output.detach().requires_grad_()
        return outputs[index].clone()

    with replaced(layers, keep):
        yield outputs
