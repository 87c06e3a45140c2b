"""What the precision ``auto`` means: read off the CPU's flags, it is what torch says."""

import pytest
import torch

from wsseg.errors import StageError
from wsseg.models import device
from wsseg.models.device import precision_here, resolve_device, resolve_precision


@pytest.fixture(autouse=True)
def asked_again():
    """Forget what was found out."""
    precision_here.cache_clear()
    yield
    precision_here.cache_clear()


@pytest.mark.parametrize("where", ["auto", "cpu"])
def test_the_flags_of_this_cpu_say_what_torch_says(where):
    told = str(resolve_precision("auto", resolve_device(where)) or "torch.float32")
    assert precision_here(where) == told.removeprefix("torch.")


@pytest.mark.parametrize(
    ("flags", "meaning"),
    [({"sse", "avx2"}, "float32"), ({"avx2", "avx512_bf16"}, "bfloat16"), ({"avx2", "amx_tile"}, "bfloat16")],
)
def test_a_cpu_computes_in_bfloat16_if_it_has_instructions_for_it(monkeypatch, flags, meaning):
    monkeypatch.setattr(device, "_cpu_flags", lambda: frozenset(flags))
    monkeypatch.setattr(device, "resolve_device", lambda _: pytest.fail("torch was asked"))
    monkeypatch.setattr(device, "_has_accelerator", lambda: False)
    assert precision_here("auto") == meaning
    monkeypatch.setattr(device, "_has_accelerator", lambda: True)
    assert precision_here("cpu") == meaning


@pytest.mark.parametrize("seen", ["an accelerator", "another system"])
def test_torch_is_asked_if_the_flags_do_not_decide(monkeypatch, seen):
    monkeypatch.setattr(device, "_has_accelerator", lambda: seen == "an accelerator")
    monkeypatch.setattr(device, "_cpu_flags", lambda: frozenset({"avx512_bf16"} if seen == "an accelerator" else ()))
    monkeypatch.setattr(device, "resolve_device", lambda _: torch.device("meta"))
    assert precision_here("auto") == "float32"


def test_a_device_that_is_not_there_is_refused():
    if torch.backends.mps.is_available():
        pytest.skip("this machine has it")
    with pytest.raises(StageError, match="device: 'mps' is not available on this machine; expected here: auto, cpu"):
        precision_here("mps")
