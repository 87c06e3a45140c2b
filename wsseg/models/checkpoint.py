"""The checkpoint of a training, written after each epoch; a resumed training ends in the same bytes."""

import json
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn


def checkpoint_bytes(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    history: dict[str, list[float]],
    scaler: torch.amp.GradScaler | None = None,
) -> bytes:
    """Return the weights, the states of the optimizer and of float16's scaler, and the history as safetensors bytes."""
    tensors = {f"model.{name}": tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor.cpu().contiguous() for name, tensor in state.items()}
    metadata = {"history": json.dumps(history)}
    if scaler is not None:
        metadata["scaler"] = json.dumps(scaler.state_dict())
    return safetensors.torch.save(tensors, metadata=metadata)


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None = None
) -> dict[str, list[float]] | None:
    """Load a checkpoint into the model, the optimizer and the scaler, in place.

    Returns:
        The metrics of the finished epochs by name, or None (nothing is loaded) if an earlier version wrote the checkpoint.
    """
    with safetensors.safe_open(path, framework="pt") as file:
        if "history" not in file.metadata():
            return None
        history: dict[str, list[float]] = json.loads(file.metadata()["history"])
        if scaler is not None and "scaler" in file.metadata():
            scaler.load_state_dict(json.loads(file.metadata()["scaler"]))
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, field = name.split(".")
            states.setdefault(int(index), {})[field] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    return history
