"""The checkpoint of a training, written after each epoch; a resumed training ends in the same bytes."""

import json
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn


def checkpoint_bytes(model: nn.Module, optimizer: torch.optim.Optimizer, history: dict[str, list[float]]) -> bytes:
    """Return the weights, the optimizer's state and the history of a training as safetensors bytes."""
    tensors = {f"model.{name}": tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor.cpu().contiguous() for name, tensor in state.items()}
    return safetensors.torch.save(tensors, metadata={"history": json.dumps(history)})


def load_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, list[float]] | None:
    """Load a checkpoint into the model and the optimizer, in place.

    Returns:
        The metrics of the finished epochs by name, or None (nothing is loaded) if an earlier version wrote the checkpoint.
    """
    with safetensors.safe_open(path, framework="pt") as file:
        if "history" not in file.metadata():
            return None
        history: dict[str, list[float]] = json.loads(file.metadata()["history"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, field = name.split(".")
            states.setdefault(int(index), {})[field] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    return history
