"""The videos that are most like one: their names, how alike they are, and a page of film strips."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import write_text
from pclkd.sharding.common.pictures import Frame
from pclkd.training.evaluation.probes import most_similar
from pclkd.training.exchange.features import FeatureFile, embed_videos, read_features
from pclkd.training.exchange.many_videos import clips_of
from pclkd.training.exchange.trained_backbone import load_clip_form
from pclkd.training.findings.page import html_document
from pclkd.training.options import check_file
from pclkd.training.preview.loaded import rgb_levels
from pclkd.training.runs.clip_form import ClipForm
from pclkd.training.visualize.page import STYLE
from pclkd.training.visualize.strips import film_strip, strip_figure

__all__ = ["search_videos"]

_FRAMES, _SIDE = 4, 64


def search_videos(
    network: Path, query: Path, index: Path, page: Path, *, key: str = "", nearest: int = 10, clips: int = 10
) -> dict[str, Any]:
    """Find the videos of an index whose features have the largest cosine with the query's; the query itself is none.

    Args:
        network: that gave the index, as `load_backbone` takes it.
        query: a video file.
        index: features that train-kd embed wrote.
        page: to write.
        key: which network of several in a file, as `load_backbone` takes it.
        nearest: how many to find, at most.
        clips: evenly spaced clips of the query.

    Returns:
        query: its path; nearest: video and cosine of each, the most alike first.

    Raises:
        InputError: no such network or index, an index of another network or without videos, a query that is no
            video, or a page that cannot be written.
    """
    if page.suffix not in (".html", ".htm"):  # it might be a file that is wanted
        raise InputError(f"{page} is no page", remedy="end its name in .html")
    check_file(page)
    stored = read_features(index)
    asked = embed_videos(network, [str(query)], key=key, clips=clips, damaged=_refuse)
    if stored.network != asked.network:
        raise InputError(
            f"{index} was written with another network than {network}",
            remedy=f"give that network, or write it again: train-kd embed {network} VIDEOS -o {index}",
        )
    places = [place for place, video in enumerate(stored.videos) if video != asked.videos[0]]
    if not places:
        raise InputError(f"{index} holds no video beside the query", remedy="embed more videos")
    found = _nearest(stored, asked, places, nearest)
    page.parent.mkdir(parents=True, exist_ok=True)
    write_text(page, _render(found, asked.videos[0], index, len(places), load_clip_form(network)))
    return {"query": asked.videos[0], "nearest": [{"video": video, "cosine": cosine} for video, cosine in found]}


def _nearest(stored: FeatureFile, asked: FeatureFile, places: list[int], count: int) -> list[tuple[str, float]]:
    features = torch.from_numpy(stored.features[places])
    likeness, rows = most_similar(features, torch.from_numpy(asked.features), count)
    pairs = zip(likeness[0].tolist(), rows[0].tolist(), strict=True)
    return [(stored.videos[places[row]], round(cosine, 6)) for cosine, row in pairs]


def _render(found: list[tuple[str, float]], query: str, index: Path, videos: int, form: ClipForm) -> str:
    names = [query, *(video for video, _ in found)]
    told = ["query", *(f"cosine {cosine:.3f}" for _, cosine in found)]
    kinds = ["asked", *("" for _ in found)]
    strips = dict(_strips(names, form))
    blank = np.full((_SIDE, _FRAMES * _SIDE, 3), 128, np.uint8)
    cells = [
        strip_figure(strips.get(name, blank), kind, Path(name).name, f"{text}, {name}")
        for name, kind, text in zip(names, kinds, told, strict=True)
    ]
    note = (
        "First the query, then what is nearest to it by the cosine of features; of each video its middle clip, as the "
        "network's crop shows it. Grey: a video that is not where it was any more."
    )
    body = f'<p class="note">{note}</p>\n<div class="query">{"".join(cells)}</div>'
    lead = f"{videos} videos of {index.name}, the nearest {len(found)}"
    return html_document(f"Videos like {Path(query).name}", lead, [("Nearest videos", body)], style=STYLE, scripts="")


def _strips(videos: list[str], form: ClipForm) -> Iterator[tuple[str, Frame]]:
    """A strip of the middle clip of each video that is there."""
    shown = form.model_copy(update={"modality": "rgb"})
    for name, clip in clips_of(videos, shown, 1, lambda *_: None):
        yield name, film_strip(rgb_levels(clip)[0], _FRAMES, _SIDE)


def _refuse(video: str, why: str) -> None:
    raise InputError(why if video in why else f"{video}: {why}", remedy="give a video file as the query")
