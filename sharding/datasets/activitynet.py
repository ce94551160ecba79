"""ActivityNet: untrimmed videos `v_<id>.mp4`, and one JSON file of segments such as `activity_net.v1-3.min.json`.

    {"database": {"<id>": {"subset": "training", "annotations": [{"segment": [0.01, 23.5], "label": "Playing harp"}]}}}

Every segment is a sample, cut from its video. `training` is the train part of split 1, `validation` its test part; the
videos of `testing` have no segments.
"""

import math
import re
from pathlib import Path

from pclkd.sharding.common import storage
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.dataset import Dataset, Span
from pclkd.sharding.datasets.layout import Layout
from pclkd.sharding.datasets.list_files import list_names, read_json
from pclkd.sharding.datasets.named_clips import NamedClip, add_clip, match_names
from pclkd.sharding.datasets.parts import part_word

__all__ = ["LAYOUT", "read_activitynet"]

_LIST = re.compile(r"activity_?net.*\.json", re.IGNORECASE)
_GET_THEM = "use the folder that holds activity_net.v1-3.min.json"


def read_activitynet(root: str | Path, splits: str | Path) -> Dataset:
    """Read the segments and match them to the videos below `root`; both may be URLs.

    Labels follow the alphabet. The group is told by the YouTube id.

    Raises:
        InputError: anything wrong with the folder or the file.
    """
    name = next((name for name in list_names(splits, _GET_THEM) if _LIST.fullmatch(name)), None)
    if name is None:
        raise InputError(f"no activity_net*.json in {splits}", remedy=_GET_THEM)
    url = storage.join(splits, name)
    clips: dict[str, NamedClip] = {}
    empty = 0
    try:
        for video, told in read_json(url, _GET_THEM)["database"].items():
            for number, segment in enumerate(told["annotations"]):
                start, end = map(float, segment["segment"])
                if not isinstance(segment["label"], str) or end == math.inf:
                    raise ValueError(segment)
                if not 0 <= start < end:
                    empty += 1
                    continue
                place = f"{url}: segment {number} of {video}"
                sources = (f"v_{video}", video)
                clip = NamedClip(
                    segment["label"], part_word(told["subset"]), place, f"youtube {video}", sources, Span(start, end)
                )
                add_clip(clips, f"v_{video}_{number:03d}", clip)
    except (TypeError, KeyError, ValueError, AttributeError, OverflowError):
        raise InputError(f"{url} is no file of ActivityNet's segments", remedy=_GET_THEM) from None
    if not clips:
        raise InputError(f"{url} holds no segment", remedy=_GET_THEM)
    notes = (f"{empty} segments end before they begin and are left out",) if empty else ()
    return match_names("activitynet", root, clips, notes=notes, expected="{}")


LAYOUT = Layout(
    "activitynet", read_activitynet, "the folder of activity_net.v1-3.min.json", list_name=_LIST, own_splits=True
)
