"""Saliency along sequences with a trained classifier, as ``wsseg explain`` writes it: values and tracks at base resolution."""

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wsseg.data.sequences import LETTERS, mirror_axes, read_records
from wsseg.data.tracks import bedgraph_lines
from wsseg.data.transforms import normalised
from wsseg.errors import StageError, listed
from wsseg.inspect.explain import Request
from wsseg.models.classifier import Classifier, ClassifierSpec
from wsseg.outputs import Outputs
from wsseg.progress import track
from wsseg.saliency.cam import multiscale_maps
from wsseg.saliency.methods import maps_of as maps_by_name
from wsseg.saliency.methods import methods_for
from wsseg.saliency.mutagenesis import importance, mutagenesis

MUTAGENESIS = "mutagenesis"


def sequence_methods(model: Classifier, spec: ClassifierSpec) -> tuple[str, ...]:
    """Return the methods for a classifier of sequences; mutagenesis needs letters."""
    return (*methods_for(model), *((MUTAGENESIS,) if spec.channels == LETTERS else ()))


@torch.no_grad()
def explain_values(
    model: Classifier, spec: ClassifierSpec, values: NDArray[np.generic], method: str, request: Request
) -> NDArray[np.float32]:
    """Return the maps (K, L) of all classes of one sequence (1, L, C), not negative and not normalised.

    Maps of different sequences stay comparable: they are the class's evidence, or the change of its logit.
    """
    channels = range(len(spec.classes))
    tensor = normalised(values, spec.mean, spec.std)[None].to(model.head.weight.device)
    if method == MUTAGENESIS:
        return importance(mutagenesis(model, tensor, channels))[0, :, 0].numpy()
    with torch.enable_grad():
        maps = maps_by_name(method, model, channels, request.layers, request.target)
        size = (1, tensor.shape[3])
        cams = multiscale_maps(maps, [tensor], request.flip, size, mirror_axes(spec.channels))
    return np.asarray(cams[0, :, 0].detach().cpu().numpy(), np.float32)


def explain_sequences(
    model: Classifier, spec: ClassifierSpec, path: Path, output: Path, request: Request, outputs: Outputs
) -> int:
    """Write what a classifier sees in each sequence of a file; returns the number of sequences.

    ``<file>.<method>.npz`` has per sequence an array (classes, L) under its name, and ``classes``; for letters,
    ``<file>.<method>.<class id>-<class>.bedgraph`` is the same as a track for genome browsers. ``<file>.scores.csv`` has the
    probabilities of the classes.

    Raises:
        DatasetError, StageError: the file cannot be read, or does not fit the classifier.
        OutputError: a file would replace an input or a file of the user; this is checked before anything is computed.
    """
    records = read_records(path)
    if records.channels != spec.channels:
        raise StageError(
            f"{path}: its channels are {listed(records.channels, 8)}; expected: those that the classifier was trained on, "
            f"{listed(spec.channels, 8)}"
        )
    names = request.classes or spec.classes
    labels = {
        name: f"{spec.classes.index(name) + 1}-" + "".join(c if c.isalnum() else "_" for c in name) for name in names
    }
    tracks = {
        (method, name): output / f"{path.name}.{method}.{labels[name]}.bedgraph"
        for method in request.methods
        for name in names
    }
    arrays = {method: output / f"{path.name}.{method}.npz" for method in request.methods}
    table = output / f"{path.name}.scores.csv"
    outputs.check([table, *arrays.values(), *(tracks.values() if spec.channels == LETTERS else ())])
    maps: dict[str, dict[str, NDArray[np.float32]]] = {method: {} for method in request.methods}
    rows = [",".join(("image_id", *spec.classes))]
    rows_of = [spec.classes.index(name) for name in names]
    for record, item_id in enumerate(track(records.ids, len(records.ids), "explanations")):
        values = records.values(record)
        with torch.no_grad():
            tensor = normalised(values, spec.mean, spec.std)[None].to(model.head.weight.device)
            probabilities = torch.sigmoid(model(tensor))[0].tolist()
        rows.append(",".join((item_id, *(f"{p:.4f}" for p in probabilities))))
        for method in request.methods:
            maps[method][item_id] = explain_values(model, spec, values, method, request)[rows_of]
    outputs.write(table, ("\n".join(rows) + "\n").encode())
    for method, by_id in maps.items():
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, classes=np.array(names), **by_id)
        outputs.write(arrays[method], buffer.getvalue())
        if spec.channels == LETTERS:
            for row, name in enumerate(names):
                lines = [line for item_id, values in by_id.items() for line in bedgraph_lines(item_id, values[row])]
                outputs.write(tracks[method, name], "".join(lines).encode())
    return len(records.ids)
