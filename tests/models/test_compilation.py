"""A compiled network gives the same results, and one that cannot be compiled runs as it is."""

import pytest
import torch
from torch._dynamo.backends import registry

from tests.models.test_training import folder, loss_of, network, plain_network, schedule, state
from wsseg.models import training
from wsseg.models.compilation import compiled
from wsseg.models.training import fit


@pytest.fixture(autouse=True)
def forgotten():
    """Forget what was compiled before."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_a_compiled_network_is_the_same_function_with_the_same_parameters():
    plain = network().eval()
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(compiled(plain, "tiny", "aot_eager")(images), plain(images))


def test_a_network_that_cannot_be_compiled_trains_without_and_a_line_says_so(data, tmp_path, caplog, monkeypatch):
    def without_compiler(backend):
        if callable(backend):
            return backend
        raise RuntimeError("no C++ compiler\nand more lines")

    monkeypatch.setattr(registry, "lookup_backend", without_compiler)
    expected, model = plain_network(), plain_network()
    fit(expected, expected[4], data, loss_of, schedule(epochs=1), folder(tmp_path, "without"), "tiny")
    fit(model, model[4], data, loss_of, schedule(epochs=1, compile=True), folder(tmp_path, "with"), "tiny")
    assert "tiny: torch.compile failed (no C++ compiler); the network runs without it" in caplog.text
    for name, tensor in state(model).items():
        torch.testing.assert_close(tensor, state(expected)[name])


def test_only_a_training_with_compile_is_compiled(data, tmp_path, monkeypatch):
    names = []
    monkeypatch.setattr(training, "compiled", lambda network, what: names.append(what) or network)
    for compile in (False, True):
        model = network()
        fit(
            model, model[5], data, loss_of, schedule(epochs=1, compile=compile), folder(tmp_path, compile), str(compile)
        )
    assert names == ["True"]
