"""Fetching pixels by a gather gives what moving them gives, for every kind of draw; and what is no gather has none."""

import numpy as np
import pytest
import torch

from pclkd.pipeline.pixels import gather
from pclkd.pipeline.pixels.gather import Gather, Gathers
from pclkd.pipeline.pretext.base import Facts, Pretext, PretextDraw
from pclkd.pipeline.pretext.clip_order import ClipOrder
from pclkd.pipeline.pretext.rotation import Rotation
from pclkd.pipeline.pretext.speed import Speed
from pclkd.pipeline.pretext.vcp import Vcp

SAMPLES, VIEWS, FRAMES, SIDE = 40, 3, 8, 6


def fetched(clips: torch.Tensor, found: Gather) -> torch.Tensor:
    """Pixel by pixel, by the formula."""
    frames = clips.permute(0, 1, 3, 4, 5, 2).reshape(-1, *clips.shape[4:], clips.shape[2])
    height, width = clips.shape[4:]
    out = torch.empty(*found.frames.shape, height, width, clips.shape[2])
    for clip, (a, b, c, d, e, f) in enumerate(found.moves.tolist()):
        for y in range(height):
            for x in range(width):
                row, column = (a * y + b * x + c) % height, (d * y + e * x + f) % width
                out[clip, :, y, x] = frames[found.frames[clip], row, column]
    return out.view(*clips.shape[:2], *out.shape[1:]).permute(0, 1, 5, 2, 3, 4)


@pytest.mark.parametrize("task", [Vcp(), ClipOrder(), Rotation("middle"), Rotation("all"), Speed()], ids=str)
def test_fetching_is_moving(task: Pretext) -> None:
    facts = Facts(np.ones(SAMPLES, np.bool_), np.full((SAMPLES, VIEWS), 9))
    draw = task.draw(3, 0, np.arange(SAMPLES), facts)
    assert set(draw.label) == set(range(len(task.classes)))
    clips = torch.randn(SAMPLES, VIEWS, 3, FRAMES, SIDE, SIDE)
    found = Gathers((SIDE, SIDE)).of(draw, SAMPLES, VIEWS, FRAMES)
    assert found is not None and found.moves.min() >= 0
    assert torch.equal(fetched(clips, found), draw.apply(clips.clone()))


class Strange(PretextDraw):
    """One of the things that a task may do and that is no gather of whole frames."""

    def apply(self, clips: torch.Tensor) -> torch.Tensor:
        match int(self.label[0]):
            case 0:
                return clips + 1
            case 1:
                return clips.flip(2)  # channels
            case 2:
                return clips.clamp(max=3)
            case 3:
                return clips[:, :, :, :-1]
            case 4:
                clips[:, 0, :, 0] = clips[:, 1, :, 0]  # a frame of another clip
                return clips
            case 5:
                clips[..., 2] = clips[..., 3]
                return clips
            case _:
                clips[:, :, :, 1, :3] = clips[:, :, :, 2, :3]  # half a frame
                return clips


@pytest.mark.parametrize("kind", range(7))
def test_what_is_no_gather_is_left_to_the_task(kind: int) -> None:
    draw = Strange(("",) * 7, np.array([kind]))
    assert Gathers((SIDE, SIDE)).of(draw, 1, VIEWS, FRAMES) is None


def test_a_task_is_asked_once_a_kind_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    ask = gather._asked
    monkeypatch.setattr(gather, "_asked", lambda *given: asked.append(1) or ask(*given))
    facts = Facts(np.ones(SAMPLES, np.bool_), np.full((SAMPLES, VIEWS), 9))
    gathers = Gathers((SIDE, SIDE))
    for epoch in range(3):
        assert gathers.of(Rotation().draw(3, epoch, np.arange(SAMPLES), facts), SAMPLES, VIEWS, FRAMES) is not None
    assert len(asked) == 4
    monkeypatch.setattr(gather, "_KINDS", 5)
    assert gathers.of(Vcp().draw(3, 0, np.arange(SAMPLES), facts), SAMPLES, VIEWS, FRAMES) is None
    assert len(asked) == 5
