"""Which pictures of a folder are the frames of a video, and in which order: told by their names alone."""

import re
from collections.abc import Iterable

__all__ = ["frames_among"]

_NUMBERED = re.compile(r"(.*?)(\d+)\.(?:jpe?g|png|bmp|webp|tiff?|ppm)", re.IGNORECASE | re.DOTALL)
_FEWEST = 2  # a single numbered picture is a thumbnail, not a video
_FLOW = "flow"  # optical flow lies beside the frames in the layout that many tools write: img_1.jpg, flow_x_1.jpg


def frames_among(names: Iterable[str]) -> list[tuple[int, str]]:
    """Return number and name of each frame, ascending; nothing where the names are not those of one row of frames.

    Frames are pictures whose names end in a number and begin alike: `00001.jpg`, `frame000001.png`, `img_1.jpeg`.
    Pictures of optical flow are none.
    """
    rows: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        match = _NUMBERED.fullmatch(name)
        if match and not name.startswith(".") and _FLOW not in match[1].lower():
            rows.setdefault(match[1], []).append((int(match[2]), name))
    if len(rows) != 1:
        return []
    (frames,) = rows.values()
    return sorted(frames) if len(frames) >= _FEWEST else []
