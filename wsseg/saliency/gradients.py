"""Maps from gradients with respect to the image itself.

All functions take a network that returns logits (N, K), images (N, C, H, W) or (N, C, L) and the channels of the classes,
and return signed evidence per input value, (N, classes, *image shape) float32; `over_colours` reduces it to maps. The
network's mode, parameters and gradients are not changed.
"""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from wsseg.errors import StageError, extra
from wsseg.saliency.forward import check_images, frozen_eval, gradients_of, logits_of
from wsseg.saliency.targets import Target, target_scores


def gradient(model: nn.Module, images: Tensor, channels: Sequence[int], target: Target = "logit") -> Tensor:
    """Return the gradient of each class's target (Simonyan, Vedaldi & Zisserman 2014)."""
    check_images(images)
    with frozen_eval(model), torch.enable_grad():
        inputs = images.detach().clone().requires_grad_()
        logits = logits_of(model, inputs, channels)
        results = []
        for index, channel in enumerate(channels):
            score = target_scores(logits, channel, target).float().sum()
            again = index + 1 < len(channels)
            results.append(gradients_of(score, [inputs], ["the images"], again)[0].float())
    return torch.stack(results, dim=1)


def input_x_gradient(model: nn.Module, images: Tensor, channels: Sequence[int], target: Target = "logit") -> Tensor:
    """Return the gradient times the image (Shrikumar et al. 2016)."""
    return gradient(model, images, channels, target) * images[:, None]


def smooth_grad(
    model: nn.Module,
    images: Tensor,
    channels: Sequence[int],
    target: Target = "logit",
    samples: int = 25,
    noise: float = 0.15,
    rng_seed: int = 0,
) -> Tensor:
    """Return the mean gradient over noisy copies of the images (Smilkov et al. 2017, SmoothGrad).

    Args:
        samples: number of copies.
        noise: standard deviation, as a fraction of each image's range.
        rng_seed: seed of the noise, which is drawn on the CPU, so that it is the same on every device.
    """
    check_images(images)
    generator = torch.Generator().manual_seed(rng_seed)
    flat = images.flatten(1)
    spread = (noise * (flat.amax(1) - flat.amin(1))).view(-1, *[1] * (images.ndim - 1))
    total = torch.zeros(len(images), len(channels), *images.shape[1:], device=images.device)
    for _ in range(samples):
        draw = torch.randn(images.shape, generator=generator).to(images)
        total += gradient(model, images + spread * draw, channels, target)
    return total / samples


def integrated_gradients(
    model: nn.Module,
    images: Tensor,
    channels: Sequence[int],
    target: Target = "logit",
    baseline: Tensor | None = None,
    steps: int = 50,
) -> Tensor:
    """Return the gradient along the line from a baseline, times the difference (Sundararajan, Taly & Yan 2017, eq. 1).

    The values of a class sum to its target at the image minus its target at the baseline (completeness), up to the error of
    the Gauss-Legendre rule with `steps` points.

    Args:
        baseline: (C, ...) or the shape of the images; None for zeros, the mean colour of normalised images.
        steps: number of points on the line.
    """
    check_images(images)
    start = torch.zeros_like(images) if baseline is None else baseline.to(images).expand_as(images)
    total = torch.zeros(len(images), len(channels), *images.shape[1:], device=images.device)
    for place, weight in _gauss_legendre(steps):
        total += weight * gradient(model, start + place * (images - start), channels, target)
    return total * (images - start)[:, None]


def _gauss_legendre(steps: int) -> list[tuple[float, float]]:
    """Return points in (0, 1) and weights, sum 1, of the Gauss-Legendre rule, exact up to degree 2 steps - 1."""
    if steps < 1:
        raise StageError(f"saliency: steps: found {steps}; expected: 1 or more")
    places, weights = np.polynomial.legendre.leggauss(steps)
    return [(float(p + 1) / 2, float(w) / 2) for p, w in zip(places, weights, strict=True)]


def guided_backpropagation(
    model: nn.Module, images: Tensor, channels: Sequence[int], target: Target = "logit"
) -> Tensor:
    """Return gradients that pass a ReLU only if they are positive (Springenberg et al. 2015), computed by Captum.

    The maps look sharp, but hardly depend on the class and the weights of later layers (Adebayo et al. 2018). Use them for
    pictures, not for seeds.

    Raises:
        MissingExtraError: Captum is not installed.
        StageError: the network has no nn.ReLU (Captum does not support ReLU6).
    """
    check_images(images)
    if not any(isinstance(module, nn.ReLU) for module in model.modules()):
        raise StageError(
            "saliency: guided backpropagation requires nn.ReLU, and the network has none; use another method such as gradient"
        )
    with extra("saliency", "guided backpropagation"):
        from captum.attr import GuidedBackprop
    results = []
    with frozen_eval(model), torch.enable_grad():
        with torch.no_grad():
            logits_of(model, images, channels)
        for channel in channels:
            scored = _Scored(model, channel, target)
            with warnings.catch_warnings():  # "hooks will be removed": they are
                warnings.simplefilter("ignore", UserWarning)
                results.append(GuidedBackprop(scored).attribute(images.detach().clone().requires_grad_()).detach())
    return torch.stack(results, dim=1)


class _Scored(nn.Module):
    """A network that returns one class's target (N,)."""

    def __init__(self, model: nn.Module, channel: int, target: Target) -> None:
        super().__init__()
        self.model, self.channel, self.target = model, channel, target

    def forward(self, images: Tensor) -> Tensor:
        return target_scores(logits_of(self.model, images, [self.channel]), self.channel, self.target)


def over_colours(evidence: Tensor) -> Tensor:
    """Return maps (N, classes, *S), not negative, of evidence (N, classes, C, *S): the largest magnitude over colour channels."""
    return evidence.abs().amax(2)


GRADIENT_METHODS: dict[str, Callable[..., Tensor]] = {
    "gradient": gradient,
    "input_x_gradient": input_x_gradient,
    "smooth_grad": smooth_grad,
    "integrated_gradients": integrated_gradients,
    "guided_backpropagation": guided_backpropagation,
}
