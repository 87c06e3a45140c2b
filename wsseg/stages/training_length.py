"""How long a training takes: passes over the images, or enough steps if there are few images."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingLength:
    """Length of a training.

    Args:
        epochs: number of epochs.
        draws: number of examples per epoch.
    """

    epochs: int
    draws: int

    def steps(self, batch_size: int) -> int:
        """Return the number of optimiser steps; an incomplete batch is dropped unless it is the only one."""
        return self.epochs * max(self.draws // batch_size, 1)


def training_length(
    epochs: int | None, images: int, batch_size: int, usual_epochs: int, fewest_steps: int
) -> TrainingLength:
    """Return the length of a training on a number of images.

    Args:
        epochs: passes over the images, or None for `usual_epochs` of at least `fewest_steps` steps together: small data sets
            are passed more often, with the same number of checkpoints.
        images: number of images.
        batch_size: images per step.
        usual_epochs: number of epochs without `epochs`.
        fewest_steps: lowest number of steps without `epochs`.
    """
    if epochs is not None:
        return TrainingLength(epochs, images)
    return TrainingLength(usual_epochs, max(images, -(-fewest_steps * batch_size // usual_epochs)))
