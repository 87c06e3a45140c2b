"""The drawing of a recipe: its steps as boxes, and the lines between them."""

from collections.abc import Sequence
from dataclasses import dataclass

from wsseg.report.run_report import StepFacts

WIDTH, HEIGHT = 150, 50  # px, of a step
_ACROSS, _DOWN = 42, 16  # px, gaps between steps


@dataclass(frozen=True)
class Box:
    """One step, with the position of its box in pixels."""

    step: StepFacts
    left: int
    top: int
    text: str


@dataclass(frozen=True)
class Graph:
    """The boxes, the SVG paths between them, and (width, height) of the drawing in pixels."""

    boxes: Sequence[Box]
    lines: Sequence[str]
    size: tuple[int, int]
    box: tuple[int, int] = (WIDTH, HEIGHT)


def drawn_recipe(steps: Sequence[StepFacts]) -> Graph:
    """Place each step to the right of all steps that it needs."""
    depth: dict[str, int] = {}
    rows: dict[int, int] = {}
    places: dict[str, tuple[int, int]] = {}
    for step in steps:
        depth[step.name] = 1 + max((depth[n] for n in step.needs if n in depth), default=-1)
    # evaluations are below the steps that they evaluate
    for step in sorted(steps, key=lambda s: s.stage == "evaluate_masks"):
        column = depth[step.name]
        row = rows.get(column, 0)
        rows[column] = row + 1
        places[step.name] = column * (WIDTH + _ACROSS), row * (HEIGHT + _DOWN)
    lines = []
    for step in steps:
        right, bottom = places[step.name]
        for left, top in (places[need] for need in step.needs if need in places):
            x1, y1, x2, y2 = left + WIDTH, top + HEIGHT // 2, right, bottom + HEIGHT // 2
            lines.append(f"M{x1} {y1}C{x1 + _ACROSS // 2} {y1} {x2 - _ACROSS // 2} {y2} {x2} {y2}")
    width = max((left for left, _ in places.values()), default=0) + WIDTH
    height = max((top for _, top in places.values()), default=0) + HEIGHT
    return Graph([Box(s, *places[s.name], cost_text(s)) for s in steps], lines, (width, height))


def cost_text(step: StepFacts) -> str:
    """Return time and size of a complete step, or the state of another one."""
    if step.state != "complete":
        return step.state
    time = f"{step.seconds:.0f} s" if step.seconds < 120 else f"{step.seconds / 60:.1f} min"
    size = f"{step.size / 2**20:.1f} MiB" if step.size >= 2**17 else f"{step.size / 2**10:.0f} KiB"
    return f"{time}, {size}"
