"""The walk against literal paths and dense matrices."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from wsseg.errors import StageError
from wsseg.saliency.walk import above_frame, ends, highest_on_paths, neighbours, starts, transition, walked


@pytest.fixture
def boundary():
    return np.random.default_rng(0).random((7, 9)).astype(np.float32)


def literal_path(dy, dx):
    """Return the offsets from (0, 0) to (dy, dx), one step of eight directions each, both ends counted."""
    path = [(dy, dx)]
    while path[-1] != (0, 0):
        y, x = path[-1]
        length = max(abs(y), abs(x))
        path.append((int(y * (length - 1) / length + 0.5), round(x * (length - 1) / length)))
    return path[::-1]


def dense(boundary, radius, beta):
    height, width = boundary.shape
    matrix = np.zeros((height * width,) * 2)
    for y in range(height):
        for x in range(width):
            for dy in range(-height, height):
                for dx in range(-width, width):
                    if dy * dy + dx * dx >= radius**2 or not (0 <= y + dy < height and 0 <= x + dx < width):
                        continue
                    flip = dy < 0 or (dy == 0 and dx < 0)  # a pair has one path
                    oy, ox = (y + dy, x + dx) if flip else (y, x)
                    path = literal_path(-dy, -dx) if flip else literal_path(dy, dx)
                    highest = max(boundary[oy + py, ox + px] for py, px in path) if (dy or dx) else 0
                    matrix[y * width + x, (y + dy) * width + x + dx] = (1 - highest) ** beta
    return matrix / matrix.sum(1, keepdims=True)


def test_neighbours_are_half_a_disk():
    assert neighbours(2) == [(0, 1), (1, -1), (1, 0), (1, 1)]
    both = {*neighbours(5), *((-y, -x) for y, x in neighbours(5))}
    assert both == {(y, x) for y in range(-5, 6) for x in range(-5, 6) if 0 < y * y + x * x < 25}


def test_paths_are_connected_and_stay_between_their_ends():
    for dy, dx in neighbours(10):
        path = literal_path(dy, dx)
        assert len(path) == max(abs(dy), abs(dx)) + 1
        assert all(0 <= y <= dy and min(0, dx) <= x <= max(0, dx) for y, x in path)
        assert all(max(abs(a - c), abs(b - d)) == 1 for (a, b), (c, d) in pairwise(path))


@pytest.mark.parametrize("radius", [2, 4, 12])
def test_the_matrix_equals_a_dense_one(boundary, radius):
    result = transition(boundary, radius, 3.0)
    assert np.allclose(result.toarray(), dense(boundary, radius, 3.0), atol=1e-6)
    assert np.allclose(result.sum(axis=1), 1, atol=1e-5)


def test_the_walk_equals_powers_of_the_dense_matrix(boundary):
    maps = np.random.default_rng(1).random((2, 7, 9)).astype(np.float32)
    state = (maps * (1 - boundary)).reshape(2, -1) @ np.linalg.matrix_power(dense(boundary, 3, 2.0), 16).T
    expected = state.reshape(maps.shape) / state.max()
    assert np.allclose(walked(maps, boundary, 3, 2.0, 16), expected, atol=1e-4)


def test_a_wall_holds_and_a_room_fills():
    wall = np.zeros((20, 30), np.float32)
    wall[:, 14] = 1
    maps = np.zeros((1, 20, 30), np.float32)
    maps[0, 10, 3] = 1
    result = walked(maps, wall, 5, 10.0, 4096)
    assert (result[0, :, :14] > 0.5).all() and (result[0, :, 15:] == 0).all()


def test_what_the_frame_reaches_is_background():
    """A boat (a closed wall) on water: its evidence also covers the water, which reaches the frame."""
    wall = np.zeros((24, 30), np.float32)
    wall[8:16, 10] = wall[8:16, 20] = wall[8, 10:21] = wall[15, 10:21] = 1
    boat = np.zeros((24, 30), bool)
    boat[9:15, 11:20] = True
    maps = np.full((1, 24, 30), 0.4, np.float32)
    maps[0, 6:18, 8:22] = 0.8
    plain, framed = (walked(maps, wall, 3, 10.0, 512, frame=frame) for frame in (False, True))
    water = ~boat & (wall == 0)
    # without the frame, no level of a quarter separates them
    assert plain[0, boat].min() == pytest.approx(1) and plain[0, water].min() > 0.4
    assert framed[0, boat].min() > 0.9 and framed[0, water].max() < 0.1


def test_above_the_frame_by_hand():
    maps = np.full((1, 3, 3), 0.2, np.float32)
    maps[0, 1, 1] = 1
    maps[0, 0, 0] = 0.6
    frame = np.zeros((3, 3), np.float32)
    frame[0, 0] = 0.25
    expected = np.zeros((3, 3))
    expected[1, 1], expected[0, 0] = 1, 0.5  # ((0.6 - 0.2) / 0.8 - 0.25)^0.5; the median along the frame is 0.2
    assert np.allclose(above_frame(maps, frame)[0], expected, atol=1e-6)
    assert not above_frame(np.full((1, 3, 3), 0.5, np.float32), np.zeros((3, 3), np.float32)).any()
    assert above_frame(np.zeros((0, 3, 3), np.float32), frame).shape == (0, 3, 3)


def test_flips_and_zeros(boundary):
    maps = np.random.default_rng(1).random((2, 7, 9)).astype(np.float32)
    maps[1] = 0
    result = walked(maps, boundary, 2)
    mirrored = walked(maps[..., ::-1].copy(), boundary[:, ::-1].copy(), 2)[..., ::-1]
    assert np.allclose(result, mirrored, atol=1e-3) and not result[1].any()


def test_it_can_be_trained_through(boundary):
    values = torch.from_numpy(boundary).requires_grad_()
    size = boundary.shape
    total = sum(highest.sum() for _, highest in highest_on_paths(values, 4))
    total.backward()
    pairs = sum(np.zeros(size)[starts(size, *d)].size for d in neighbours(4))
    assert values.grad.sum().item() == pytest.approx(pairs)  # each pair's maximum is one place
    assert all(boundary[starts(size, *d)].shape == boundary[ends(size, *d)].shape for d in neighbours(4))


def test_bad_input_is_named():
    with pytest.raises(StageError, match=r"expected: \(H, W\) in \[0, 1\]"):
        walked(np.ones((1, 4, 4), np.float32), np.full((4, 4), 2, np.float32))
