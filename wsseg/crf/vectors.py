"""The inner loops of the lattice's filter as vector instructions.

All W channels of a corner are one LLVM vector: Numba's own loops over a handful of channels stay scalar (its SLP
vectoriser is off, for it miscompiles). Two layouts meet here: sums lie corner by corner, (M + 1, W), pixels' values
plane by plane, channel k of a pixel at ``planes[first + k * step]``; so loops over pixels vectorise, too.

Arguments `row` and `simplex` are tuples whose lengths, W and d + 1, are part of the compiled type; their values mean
nothing. Arrays are C-contiguous; no index is checked, callers own the bounds.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

_FLOAT = ir.FloatType()
_INT = ir.IntType(32)
_LONG = ir.IntType(64)
_FUSED = ("contract",)  # a product and a sum may become one instruction


class _Code:
    """Generates code on arrays of one function."""

    def __init__(self, context: Any, builder: Any, signature: Any, values: Sequence[Any]) -> None:
        self.builder, self.values = builder, values
        self._data = [
            context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, values, strict=True)
        ]

    def item(self, array: int, index: Any) -> Any:
        """Return a pointer to an element of the argument number `array`."""
        return self.builder.gep(self._data[array], [index])

    def row(self, array: int, index: Any, width: int) -> Any:
        """Return a pointer to a row as a vector."""
        start = self.item(array, self.builder.mul(index, _LONG(width)))
        return self.builder.bitcast(start, ir.VectorType(_FLOAT, width).as_pointer())

    def spread(self, value: Any, width: int) -> Any:
        """Return a vector that holds a value `width` times."""
        one = self.builder.insert_element(ir.VectorType(_FLOAT, width)(ir.Undefined), value, _INT(0))
        return self.builder.shuffle_vector(one, one, ir.VectorType(_INT, width)([0] * width))

    def corners(self, corners: int, weights: int, n: Any, size: int) -> list[tuple[Any, Any]]:
        """Return the numbers of pixel n's corners as int64, and their weights."""
        places = [self.builder.add(self.builder.mul(n, _LONG(size)), _LONG(r)) for r in range(size)]
        return [
            (
                self.builder.zext(self.builder.load(self.item(corners, p)), _LONG),
                self.builder.load(self.item(weights, p)),
            )
            for p in places
        ]

    def sliced(self, sums: int, corners: int, weights: int, n: Any, width: int, size: int) -> Any:
        """Return the vector of sums at a pixel."""
        total = None
        for number, weight in self.corners(corners, weights, n, size):
            vector = self.builder.load(self.row(sums, number, width), align=4)
            term = self.builder.fmul(self.spread(weight, width), vector, flags=_FUSED)
            total = term if total is None else self.builder.fadd(total, term, flags=_FUSED)
        return total

    def splatted(self, sums: int, corners: int, weights: int, n: Any, vector: Any, width: int, size: int) -> None:
        """Add a pixel's vector onto its corners."""
        for number, weight in self.corners(corners, weights, n, size):
            pointer = self.row(sums, number, width)
            term = self.builder.fmul(self.spread(weight, width), vector, flags=_FUSED)
            self.builder.store(
                self.builder.fadd(self.builder.load(pointer, align=4), term, flags=_FUSED), pointer, align=4
            )

    def lanes(self, planes: int, first: Any, step: Any, width: int) -> list[Any]:
        """Return pointers to the channels of a pixel."""
        return [
            self.item(planes, self.builder.add(first, self.builder.mul(step, _LONG(k)))) for k in range(width)
        ]  # fmt: skip

    def gathered(self, planes: int, first: Any, step: Any, width: int) -> Any:
        """Return the channels of a pixel as a vector."""
        vector = ir.VectorType(_FLOAT, width)(ir.Undefined)
        for k, pointer in enumerate(self.lanes(planes, first, step, width)):
            vector = self.builder.insert_element(vector, self.builder.load(pointer), _INT(k))
        return vector

    def scattered(self, planes: int, first: Any, step: Any, vector: Any, width: int) -> None:
        """Store a vector as the channels of a pixel."""
        for k, pointer in enumerate(self.lanes(planes, first, step, width)):
            self.builder.store(self.builder.extract_element(vector, _INT(k)), pointer)


def _generator(body: Callable[[_Code], None]) -> Callable[..., Any]:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        body(_Code(context, builder, signature, values))
        return context.get_dummy_value()

    return generate


@intrinsic
def slice_one(typing: Any, planes: Any, first: Any, step: Any, sums: Any, corners: Any, weights: Any, n: Any, row: Any, simplex: Any) -> Any:  # fmt: skip
    """planes[first + k step] = sum over r of weights[n, r] sums[corners[n, r], k], for k < W."""
    width, size = len(row), len(simplex)

    def body(code: _Code) -> None:
        first, step, n = (code.values[k] for k in (1, 2, 6))
        code.scattered(0, first, step, code.sliced(3, 4, 5, n, width, size), width)

    longs = types.int64
    return types.void(planes, longs, longs, sums, corners, weights, longs, row, simplex), _generator(body)


@intrinsic
def slice_two(
    typing: Any, planes: Any, first: Any, step: Any, n: Any, row: Any,
    g_factor: Any, g_sums: Any, g_corners: Any, g_weights: Any, plane: Any,
    b_factor: Any, b_sums: Any, b_corners: Any, b_weights: Any, colour: Any,
) -> Any:  # fmt: skip
    """planes[first + k step] = the slices of two lattices, each times its factor."""
    width, plane_size, colour_size = len(row), len(plane), len(colour)

    def body(code: _Code) -> None:
        builder, values = code.builder, code.values
        spatial = code.sliced(6, 7, 8, values[3], width, plane_size)
        alike = code.sliced(11, 12, 13, values[3], width, colour_size)
        both = builder.fadd(
            builder.fmul(code.spread(values[5], width), spatial, flags=_FUSED),
            builder.fmul(code.spread(values[10], width), alike, flags=_FUSED),
            flags=_FUSED,
        )
        code.scattered(0, values[1], values[2], both, width)

    longs, single = types.int64, types.float32
    return types.void(
        planes, longs, longs, longs, row, single, g_sums, g_corners, g_weights, plane,
        single, b_sums, b_corners, b_weights, colour,
    ), _generator(body)  # fmt: skip


@intrinsic
def splat_one(typing: Any, sums: Any, corners: Any, weights: Any, n: Any, planes: Any, first: Any, step: Any, row: Any, simplex: Any) -> Any:  # fmt: skip
    """sums[corners[n, r], k] += weights[n, r] planes[first + k step], for all r and k < W."""
    width, size = len(row), len(simplex)

    def body(code: _Code) -> None:
        n, first, step = (code.values[k] for k in (3, 5, 6))
        code.splatted(0, 1, 2, n, code.gathered(4, first, step, width), width, size)

    longs = types.int64
    return types.void(sums, corners, weights, longs, planes, longs, longs, row, simplex), _generator(body)


@intrinsic
def splat_two(
    typing: Any, planes: Any, first: Any, step: Any, n: Any, row: Any,
    g_sums: Any, g_corners: Any, g_weights: Any, plane: Any,
    b_sums: Any, b_corners: Any, b_weights: Any, colour: Any,
) -> Any:  # fmt: skip
    """`splat_one` onto two lattices."""
    width, plane_size, colour_size = len(row), len(plane), len(colour)

    def body(code: _Code) -> None:
        vector = code.gathered(0, code.values[1], code.values[2], width)
        code.splatted(5, 6, 7, code.values[3], vector, width, plane_size)
        code.splatted(9, 10, 11, code.values[3], vector, width, colour_size)

    longs = types.int64
    return types.void(
        planes, longs, longs, longs, row, g_sums, g_corners, g_weights, plane, b_sums, b_corners, b_weights, colour
    ), _generator(body)


@intrinsic
def blur_row(typing: Any, target: Any, source: Any, v: Any, before: Any, behind: Any, row: Any) -> Any:
    """target[v] = source[v] + (source[before] + source[behind]) / 2, rows of W."""
    width = len(row)

    def body(code: _Code) -> None:
        builder = code.builder
        own, one, other = (builder.load(code.row(1, code.values[k], width), align=4) for k in (2, 3, 4))
        both = builder.fmul(code.spread(_FLOAT(0.5), width), builder.fadd(one, other, flags=_FUSED), flags=_FUSED)
        builder.store(builder.fadd(own, both, flags=_FUSED), code.row(0, code.values[2], width), align=4)

    return types.void(target, source, types.int64, types.int64, types.int64, row), _generator(body)
