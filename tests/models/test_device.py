"""The meaning of the precision ``auto``: the flags of the CPU and torch agree."""

import pytest
import torch

from wsseg.errors import StageError
from wsseg.models import device
from wsseg.models.device import precision_here, resolve_device, resolve_precision


@pytest.fixture(autouse=True)
def empty_cache():
    """Clear the cache of `precision_here` before and after each test."""
    precision_here.cache_clear()
    yield
    precision_here.cache_clear()


@pytest.mark.parametrize("where", ["auto", "cpu"])
def test_the_flags_of_this_cpu_agree_with_torch(where):
    dtype = str(resolve_precision("auto", resolve_device(where)) or "torch.float32")
    assert precision_here(where) == dtype.removeprefix("torch.")


@pytest.mark.parametrize(
    ("flags", "meaning"),
    [({"sse", "avx2"}, "float32"), ({"avx2", "avx512_bf16"}, "bfloat16"), ({"avx2", "amx_tile"}, "bfloat16")],
)
def test_auto_is_bfloat16_on_a_cpu_with_instructions_for_it(monkeypatch, flags, meaning):
    monkeypatch.setattr(device, "_cpu_flags", lambda: frozenset(flags))
    monkeypatch.setattr(device, "resolve_device", lambda _: pytest.fail("torch was used"))
    monkeypatch.setattr(device, "_has_accelerator", lambda: False)
    assert precision_here("auto") == meaning
    monkeypatch.setattr(device, "_has_accelerator", lambda: True)
    assert precision_here("cpu") == meaning


@pytest.mark.parametrize("machine", ["an accelerator", "another system"])
def test_torch_decides_with_an_accelerator_or_without_flags(monkeypatch, machine):
    monkeypatch.setattr(device, "_has_accelerator", lambda: machine == "an accelerator")
    monkeypatch.setattr(device, "_cpu_flags", lambda: frozenset({"avx512_bf16"} if machine == "an accelerator" else ()))
    monkeypatch.setattr(device, "resolve_device", lambda _: torch.device("meta"))
    assert precision_here("auto") == "float32"


def test_an_unavailable_device_is_rejected():
    if torch.backends.mps.is_available():
        pytest.skip("this machine has MPS")
    with pytest.raises(StageError, match="device: 'mps' is not available on this machine; expected here: auto, cpu"):
        precision_here("mps")
