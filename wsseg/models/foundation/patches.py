"""Image sizes of transformers that divide images into square patches."""


def patched_size(size: tuple[int, int], long_side: float, patch: int) -> tuple[int, int]:
    """Return the network's input (H, W) for an image of `size`: its long side scaled, in multiples of `patch`, at least two."""
    factor = long_side / max(size)
    height, width = (max(2, round(extent * factor / patch)) * patch for extent in size)
    return height, width
