"""What DALI's graph does with a frame, operator by operator.

    jpeg --decode the window--> uint8 --resize?--> --color_twist--> --gaussian_blur--> --crop_mirror_normalize-->
                                      '------------------------------------------------------------------------'
                            on the CPU `fused` does these, several times as fast; on a GPU `kernels`

Every operator takes its parameters per frame, from inputs of the names that `frame_graph.inputs_of` gives them. The
decoder's `use_fast_idct` is left off: no faster on the CPU, and up to 8 levels off (mean 1.0).
"""

from collections.abc import Sequence
from typing import Any

from nvidia.dali import fn, types

from pclkd.pipeline.pixels.colours import MEAN, STD
from pclkd.pipeline.pixels.frame_graph import FrameGraph

__all__ = ["plain_frames", "resized_frames"]


def _fed(name: str, dtype: types.DALIDataType, ndim: int) -> Any:
    return fn.external_source(name=name, dtype=dtype, ndim=ndim, batch=True)


def plain_frames(graph: FrameGraph) -> Any:
    """Windows of the clip's size."""
    return _outputs_of(graph, _windows(graph, list(graph.crop)), resizes=False)


def resized_frames(graph: FrameGraph) -> Any:
    """Windows of any size."""
    return _outputs_of(graph, _windows(graph, _fed("shape", types.INT32, 1)), resizes=True)


def _outputs_of(graph: FrameGraph, windows: Any, *, resizes: bool) -> Any:
    """The clips' frames, and those of each further view: of the same decoded windows."""
    frames = _resized(windows, graph.crop[0]) if resizes and graph.colours != "fused" else windows
    if graph.colours == "fused" or (graph.colours == "kernels" and not graph.moments):
        return frames
    names = ("brightness", "contrast", "saturation", "hue") if graph.turns_colours else ()
    colours = {name: _fed(name, types.FLOAT, 0) for name in names}
    flip = _fed("flip", types.INT32, 0)
    found = [frames if graph.colours == "kernels" else _finished(frames, colours, "", flip, MEAN, STD)]
    for number, view in enumerate(graph.moments):
        frames = windows if view.size == graph.crop[0] and not resizes else _resized(windows, view.size)
        shown = colours if view.colours else {}
        found.append(_finished(frames, shown, str(number), flip, view.mean, view.std))
    return tuple(found)


def _resized(frames: Any, side: int) -> Any:
    """A triangle filter with antialiasing, as torchvision's bilinear one."""
    return fn.resize(frames, size=[side, side], interp_type=types.INTERP_LINEAR, antialias=True)


def _windows(graph: FrameGraph, shape: Any) -> Any:
    frames = fn.decoders.image_slice(
        _fed("jpeg", types.UINT8, 1),
        _fed("anchor", types.INT32, 1),
        shape,
        axis_names="HW",
        device=graph.decode,
        output_type=types.RGB,
        jpeg_fancy_upsampling=True,  # else nvJPEG repeats chroma pixels, where the CPU interpolates them
    )
    return frames.gpu() if graph.device.type == "cuda" else frames


def _finished(
    frames: Any, colours: dict[str, Any], blur: str, flip: Any, mean: Sequence[float], std: Sequence[float]
) -> Any:
    """Colours and blur, where there are any, flip and normalisation."""
    if colours:
        frames = fn.color_twist(frames, **colours)
        sigma, window = _fed(f"sigma{blur}", types.FLOAT, 0), _fed(f"window{blur}", types.INT32, 0)
        frames = fn.gaussian_blur(frames, sigma=sigma, window_size=window)
    return fn.crop_mirror_normalize(
        frames,
        mirror=flip,
        mean=[255 * value for value in mean],
        std=[255 * value for value in std],
        dtype=types.FLOAT,
        output_layout="HWC",
    )
