"""What a GPU runs, a Triton program for a tile of a frame: see `kernels`.

Triton compiles a kernel when it is first called. With TRITON_INTERPRET=1 in the environment, before this is imported,
it runs them on a CPU, for tests.
"""
# Triton's functions are compiled from their source; their arguments are pointers, numbers and tiles, without types.
# mypy: disable-error-code="no-untyped-def, untyped-decorator, no-untyped-call"

import triton
import triton.language as tl

__all__ = ["blur_across", "finish_clips"]


@triton.jit
def _level(value):
    """The nearest of the levels 0..255, halves to the even one: behind 1.5 * 2**23 float32 has no digits left."""
    return (tl.minimum(tl.maximum(value, 0.0), 255.0) + 12582912.0) - 12582912.0


@triton.jit
def _inside(place, reach, size):
    """A place at most `reach` beyond an edge, reflected at the middle of the last pixel (BORDER_REFLECT_101)."""
    period = 2 * (size - 1)
    place = (place + (reach // period + 1) * period) % period
    return tl.minimum(place, period - place)


@triton.jit
def _recoloured(frames, frame, pixels, pixel, inside, colours):
    """Red, green and blue levels of pixels of a frame, through its clip's map."""
    place = frames + (frame.to(tl.int64) * pixels + pixel) * 3
    red = tl.load(place, mask=inside, other=0).to(tl.float32)
    green = tl.load(place + 1, mask=inside, other=0).to(tl.float32)
    blue = tl.load(place + 2, mask=inside, other=0).to(tl.float32)
    r = tl.load(colours) * red + tl.load(colours + 1) * green + tl.load(colours + 2) * blue + tl.load(colours + 3)
    g = tl.load(colours + 4) * red + tl.load(colours + 5) * green + tl.load(colours + 6) * blue + tl.load(colours + 7)
    b = tl.load(colours + 8) * red + tl.load(colours + 9) * green + tl.load(colours + 10) * blue + tl.load(colours + 11)
    return _level(r), _level(g), _level(b)


@triton.jit
def blur_across(frames, maps, blurs, taps, out, length, height, width, row, block: tl.constexpr):
    """Blur the rows of frame program_id(0) of the blurred clips."""
    number = tl.program_id(0)
    slot = number // length
    clip, reach = tl.load(blurs + 2 * slot), tl.load(blurs + 2 * slot + 1)
    pixels = height * width
    pixel = tl.program_id(1) * block + tl.arange(0, block)
    inside = pixel < pixels
    y, x = pixel // width, pixel % width
    frame = clip * length + number % length
    r = tl.zeros([block], tl.float32)
    g = tl.zeros([block], tl.float32)
    b = tl.zeros([block], tl.float32)
    for tap in range(0, 2 * reach + 1):
        column = _inside(x + tap - reach, reach, width)
        red, green, blue = _recoloured(frames, frame, pixels, y * width + column, inside, maps + 12 * clip)
        weight = tl.load(taps + slot * row + tap)
        r += weight * red
        g += weight * green
        b += weight * blue
    place = out + (number.to(tl.int64) * pixels + pixel) * 3
    tl.store(place, r, mask=inside)
    tl.store(place + 1, g, mask=inside)
    tl.store(place + 2, b, mask=inside)


@triton.jit
def _fetched(
    frames, maps, blurs, taps, across, frame, slot, y, x, inside, length, height, width, row, block: tl.constexpr
):
    """Levels of a frame at places of it, recoloured and blurred."""
    pixels = height * width
    if slot >= 0:
        r = tl.zeros([block], tl.float32)
        g = tl.zeros([block], tl.float32)
        b = tl.zeros([block], tl.float32)
        reach = tl.load(blurs + 2 * slot + 1)
        begin = (slot * length + frame % length).to(tl.int64) * pixels
        for tap in range(0, 2 * reach + 1):
            place = across + (begin + _inside(y + tap - reach, reach, height) * width + x) * 3
            weight = tl.load(taps + slot * row + tap)
            r += weight * tl.load(place, mask=inside, other=0.0)
            g += weight * tl.load(place + 1, mask=inside, other=0.0)
            b += weight * tl.load(place + 2, mask=inside, other=0.0)
    else:
        r, g, b = _recoloured(frames, frame, pixels, y * width + x, inside, maps + 12 * (frame // length))
    return r, g, b


@triton.jit
def finish_clips(
    frames,
    maps,
    table,
    blurs,
    taps,
    across,
    out,
    length,
    height,
    width,
    row,
    r_scale,
    g_scale,
    b_scale,
    r_zero,
    g_zero,
    b_zero,
    residual: tl.constexpr,
    block: tl.constexpr,
):
    """All frames of clip program_id(0): each of their pixels is fetched once, whatever it is subtracted from."""
    clip = tl.program_id(0)
    table += clip * (7 + length)
    pixels = height * width
    pixel = tl.program_id(1) * block + tl.arange(0, block)
    inside = pixel < pixels
    down, right = pixel // width, pixel % width
    y = (tl.load(table) * down + tl.load(table + 1) * right + tl.load(table + 2)) % height
    x = (tl.load(table + 3) * down + tl.load(table + 4) * right + tl.load(table + 5)) % width
    slot = tl.load(table + 6)
    table += 7
    if residual:
        last = tl.load(table + length - 1)
        r_before, g_before, b_before = _fetched(
            frames, maps, blurs, taps, across, last, slot, y, x, inside, length, height, width, row, block
        )
    for t in range(0, length):
        frame = tl.load(table + t)
        r, g, b = _fetched(
            frames, maps, blurs, taps, across, frame, slot, y, x, inside, length, height, width, row, block
        )
        place = out + ((clip.to(tl.int64) * length + t) * pixels + pixel) * 3
        if residual:
            tl.store(place, (r_scale * (r_before - r)).to(out.dtype.element_ty), mask=inside)
            tl.store(place + 1, (g_scale * (g_before - g)).to(out.dtype.element_ty), mask=inside)
            tl.store(place + 2, (b_scale * (b_before - b)).to(out.dtype.element_ty), mask=inside)
            r_before, g_before, b_before = r, g, b
        else:
            tl.store(place, (r_scale * r + r_zero).to(out.dtype.element_ty), mask=inside)
            tl.store(place + 1, (g_scale * g + g_zero).to(out.dtype.element_ty), mask=inside)
            tl.store(place + 2, (b_scale * b + b_zero).to(out.dtype.element_ty), mask=inside)
