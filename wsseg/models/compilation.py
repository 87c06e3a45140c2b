"""Compilation of networks with torch.compile, which goes on without where it fails."""

import logging
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

log = logging.getLogger("wsseg")


def compiled(network: nn.Module, what: str, backend: str = "inductor") -> nn.Module:
    """Return the network compiled; a part that cannot be compiled runs as it is, and a log line says so.

    Args:
        network: the network; it keeps its parameters.
        what: its name in the log line.
        backend: torch's name of the compiler.
    """

    def compile_graph(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        from torch._dynamo.backends.registry import lookup_backend

        try:
            return cast(Callable[..., Any], lookup_backend(backend)(graph, inputs))
        except Exception as error:  # noqa: BLE001 (each compiler has errors of its own, such as a missing g++)
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            log.warning("%s: torch.compile failed (%s); the network runs without it", what, reason)
            return graph.forward

    return cast(nn.Module, torch.compile(network, backend=compile_graph))
