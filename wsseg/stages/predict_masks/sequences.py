"""Prediction of intervals in a file of sequences with a trained segmenter."""

from pathlib import Path

from wsseg.data.sequences import read_records
from wsseg.data.tracks import bed_lines, bedgraph_lines
from wsseg.errors import StageError, listed
from wsseg.outputs import Outputs
from wsseg.progress import track
from wsseg.stages.predict_masks.prediction import Predictor


def predict_sequences(predictor: Predictor, path: Path, output: Path, outputs: Outputs) -> int:
    """Write ``<file>.bed``, the predicted intervals, and ``<file>.<class id>-<class>.bedgraph``, the probability at each place.

    Returns:
        The number of intervals.

    Raises:
        DatasetError, StageError: the file cannot be read, or does not fit the network.
        OutputError: a file would replace an input or a file of the user; this is checked before anything is computed.
    """
    records, spec = read_records(path), predictor.spec
    if records.channels != spec.channels:
        raise StageError(
            f"{path}: its channels are {listed(records.channels, 8)}; expected: those that the network was trained on, "
            f"{listed(spec.channels, 8)}"
        )
    names = ("background", *spec.classes)
    bed = output / f"{path.name}.bed"
    tracks = [
        output / f"{path.name}.{class_id}-{''.join(c if c.isalnum() else '_' for c in name)}.bedgraph"
        for class_id, name in enumerate(spec.classes, start=1)
    ]
    outputs.check([bed, *tracks])
    intervals: list[str] = []
    values: list[list[str]] = [[] for _ in tracks]
    for record, item_id in enumerate(track(records.ids, len(records.ids), "predictions")):
        (prediction,) = predictor.predict([records.values(record)])
        intervals += bed_lines(item_id, prediction.mask, names, prediction.probability[0])
        if prediction.scores is not None:
            for lines, scores in zip(values, prediction.scores[1:, 0], strict=True):
                lines += bedgraph_lines(item_id, scores)
    outputs.write(bed, "".join(intervals).encode())
    for target, lines in zip(tracks, values, strict=True):
        outputs.write(target, "".join(lines).encode())
    return len(intervals)
