"""Devices and precisions of computation. Functions import torch themselves, so that planning works without it."""

import platform
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from wsseg.errors import StageError

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
# device files under Linux of accelerators that torch can use: NVIDIA (also under WSL and on Jetson), AMD, Intel, Habana
_ACCELERATORS = ("nvidiactl", "dxg", "nvmap", "kfd", "dri", "accel")
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_tile"})


def resolve_device(device: Device) -> "torch.device":
    """Return the torch device; ``auto`` is the first accelerator, or the CPU if there is none.

    Raises:
        StageError: this machine does not have the device.
    """
    import torch

    if device == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator if accelerator is not None else torch.device("cpu")
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[device]:
        expected = ", ".join(name for name, is_available in available.items() if is_available)
        raise StageError(f"device: {device!r} is not available on this machine; expected here: auto, {expected}")
    return torch.device(device)


def resolve_precision(precision: Precision, device: "torch.device") -> "torch.dtype | None":
    """Return the autocast dtype, or None for plain float32.

    ``auto`` is bfloat16 only if the device has instructions for it: emulated on a CPU, it is ten times slower than float32.
    """
    import torch

    if precision == "auto":
        if device.type == "cuda":
            native = torch.cuda.is_bf16_supported(including_emulation=False)
            return torch.bfloat16 if native else torch.float16
        native = device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
        return torch.bfloat16 if native else None
    return {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]


def training_precision(precision: Precision, device: "torch.device") -> "torch.dtype | None":
    """Return the autocast dtype of a training, or None for plain float32.

    Raises:
        StageError: float16 on a CPU, where no gradient scaler exists.
    """
    dtype = resolve_precision(precision, device)
    if str(dtype) == "torch.float16" and device.type == "cpu":
        raise StageError('precision: found "float16"; expected for training on a CPU: auto, bfloat16, float32')
    return dtype


def autocast(precision: Precision, device: "torch.device") -> "torch.autocast":
    """Return the autocast context of a precision on a device."""
    import torch

    dtype = resolve_precision(precision, device)
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def release_memory(device: "torch.device") -> None:
    """Return the memory that torch keeps for new tensors to an accelerator; on a CPU there is nothing to do."""
    import torch

    if device.type != "cpu":
        torch.get_device_module(device).empty_cache()


@cache
def precision_here(device: Device) -> Precision:
    """Return what the precision ``auto`` means on this machine.

    Keys of artifacts contain this value instead of ``auto``, so that machines that share a store do not mix up their results.
    On Linux without an accelerator it is read from ``/proc/cpuinfo``, because importing torch takes seconds.

    Raises:
        StageError: this machine does not have the device.
    """
    flags = _cpu_flags()
    if flags and (device == "cpu" or (device == "auto" and not _has_accelerator())):
        return "bfloat16" if flags & _BFLOAT16_FLAGS else "float32"
    dtype = resolve_precision("auto", resolve_device(device))
    names: dict[str, Precision] = {"torch.bfloat16": "bfloat16", "torch.float16": "float16"}
    return names.get(str(dtype), "float32")


def _cpu_flags() -> frozenset[str]:
    """Return the flags of an x86 CPU under Linux; an empty set elsewhere."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return frozenset()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())


def _has_accelerator() -> bool:
    return any(Path("/dev", name).exists() for name in _ACCELERATORS)
