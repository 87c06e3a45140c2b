"""A teacher that is the moving average of its student (Tarvainen & Valpola 2017), and the mixing that it teaches through.

The teacher looks at each batch as it is; the student learns from images with a box of another one pasted in (Yun et al. 2019,
CutMix; French et al. 2020 for segmentation). What the teacher doubts counts less; where the mask is 255, its own label stands.
"""

import copy

import torch
from torch import Tensor, nn

from wsseg.labels import IGNORE_INDEX
from wsseg.stages.train_segmenter.losses import probability_of


class TaughtNetwork(nn.Module):
    """A student and its teacher; both are in the checkpoint.

    Args:
        student: the network that is trained.
        decay: share of the teacher that stays at each step, in [0, 1).
    """

    def __init__(self, student: nn.Module, decay: float) -> None:
        super().__init__()
        self.student = student
        self.teacher = copy.deepcopy(student).requires_grad_(False).eval()
        self.decay = decay
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def train(self, mode: bool = True) -> "TaughtNetwork":
        """Set the student's mode; the teacher only ever looks."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, images: Tensor, taught: bool = False) -> Tensor:
        """Return the student's logits, or the teacher's."""
        if taught:
            with torch.no_grad():
                return self.teacher(images)  # type: ignore[no-any-return]
        return self.student(images)  # type: ignore[no-any-return]

    @torch.no_grad()
    def follow(self) -> None:
        """Move the teacher towards the student: by 1 / (step + 1) at first, so that its start is soon forgotten."""
        steps: Tensor = self.steps  # type: ignore[assignment]
        keep = min(self.decay, 1 - 1 / (int(steps) + 1))
        steps += 1
        for own, other in zip(self.teacher.state_dict().values(), self.student.state_dict().values(), strict=True):
            if own.is_floating_point():
                own.lerp_(other, 1 - keep)
            else:
                own.copy_(other)


def teacher_targets(masks: Tensor, probabilities: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the student is to learn: labels (N, H, W) int64 without 255, and weights (N, H, W) in [0, 1].

    The weight of the teacher's own label is its probability among the background and the classes present; that of a mask's label is
    a half at least, and one where the teacher agrees. (Were it the probability alone, a pair that denies every rare class
    would have no loss left: it did so on steel defects.)

    Args:
        masks: (N, H, W) int64, may hold 255.
        probabilities: the teacher's, (N, K + 1, H, W).
        present: (N, K), 1 for the classes of each image.
    """
    possible = torch.cat([torch.ones_like(present[:, :1]), present], dim=1)[:, :, None, None]
    among = probabilities * possible
    among = among / among.sum(1, keepdim=True).clamp_min(1e-6)
    decided = masks != IGNORE_INDEX
    labels = torch.where(decided, masks, among.argmax(1))
    agreement = probability_of(among, labels)
    return labels, torch.where(decided, (1 + agreement) / 2, agreement)


def random_boxes(count: int, size: tuple[int, int], device: torch.device) -> Tensor:
    """Return (N, H, W) bool: a box of a quarter of the area, anywhere in each, by torch's generator."""
    height, width = size
    along, across = torch.arange(height, device=device), torch.arange(width, device=device)
    top = torch.randint(height - height // 2 + 1, (count, 1), device=device)
    left = torch.randint(width - width // 2 + 1, (count, 1), device=device)
    rows = (along >= top) & (along < top + height // 2)
    columns = (across >= left) & (across < left + width // 2)
    return rows[:, :, None] & columns[:, None, :]


def cutmix(batch: Tensor, box: Tensor) -> Tensor:
    """Return (N, ...) tensors with the box of the next one in the batch: (N, H, W), or (N, C, H, W)."""
    where = box if batch.ndim == 3 else box[:, None]
    return torch.where(where, batch.roll(-1, 0), batch)
