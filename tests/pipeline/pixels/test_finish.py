"""Finishing a batch sample by sample is finishing it as a whole, for every pretext task."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from pclkd.pipeline.pixels.finish import ClipFinish, residual
from pclkd.pipeline.pretext.base import Facts, Pretext, PretextDraw
from pclkd.pipeline.pretext.clip_order import ClipOrder
from pclkd.pipeline.pretext.rotation import Rotation
from pclkd.pipeline.pretext.speed import Speed
from pclkd.pipeline.pretext.vcp import Vcp

B, V, T, SIDE = 24, 3, 8, 6
TASKS: list[Pretext] = [Vcp(), ClipOrder(), Rotation("middle"), Rotation("all"), Speed()]


def drawn(task: Pretext) -> PretextDraw:
    draw = task.draw(3, 1, np.arange(B), Facts(np.arange(B) % 2 == 0, np.full((B, V), 9)))
    assert len(np.unique(draw.label)) == len(task.classes)  # every transform is among them
    return draw


def clips() -> torch.Tensor:
    """[B, V, C, T, H, W] in the loader's memory order."""
    frames = torch.randn(B, V, T, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(0))
    return frames.permute(0, 1, 5, 2, 3, 4)


def by_samples(finish: ClipFinish) -> torch.Tensor:
    found = clips()
    for b in reversed(range(B)):
        finish.sample_(b, found[b : b + 1])
    return found


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.name}-{getattr(task, 'changed', '')}")
def test_sample_by_sample_equals_the_batch(task: Pretext, residual: bool) -> None:
    finish = ClipFinish(drawn(task), residual)
    whole = finish.batch(clips())
    assert torch.equal(by_samples(finish), whole)
    assert torch.equal(whole, clips()) == (task.name == "speed" and not residual)


def test_without_a_task_frames_become_differences() -> None:
    before = clips()
    found = by_samples(ClipFinish(residual=True))
    assert torch.equal(found[:, :, :, 1:], before[:, :, :, :-1] - before[:, :, :, 1:])
    assert torch.equal(found[:, :, :, 0], before[:, :, :, -1] - before[:, :, :, 0])


def test_nothing_to_do_changes_nothing() -> None:
    assert not ClipFinish().differences_first(B).any()
    assert torch.equal(by_samples(ClipFinish()), clips())


@dataclass(frozen=True, eq=False)
class Scaled(PretextDraw):
    """A task of somebody else's, which answers with new memory."""

    factor: np.ndarray

    def apply(self, clips: torch.Tensor) -> torch.Tensor:
        self._check_batch(clips)
        return clips * torch.from_numpy(self.factor).view(-1, 1, 1, 1, 1, 1)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.name}-{getattr(task, 'changed', '')}")
def test_differences_may_be_taken_first_exactly_where_a_task_keeps_time(task: Pretext) -> None:
    draw = drawn(task)
    first = draw.apply(residual(clips()).clone(memory_format=torch.preserve_format))
    last = residual(draw.apply(clips()))
    same = [torch.equal(one, other) for one, other in zip(first, last, strict=True)]
    assert same == draw.keeps_time.tolist()
    assert ClipFinish(draw, residual=True).differences_first(B).tolist() == same
    assert not ClipFinish(draw).differences_first(B).any()


def test_a_task_that_does_not_tell_keeps_no_time() -> None:
    assert PretextDraw(("as it is",), np.zeros(B, np.int64)).keeps_time.all()
    assert not Scaled(("scaled",), np.zeros(B, np.int64), np.ones(B)).keeps_time.any()


def test_a_task_may_answer_with_new_memory() -> None:
    draw = Scaled(("scaled",), np.zeros(B, np.int64), np.arange(B, dtype=np.float32))
    finish = ClipFinish(draw, residual=True)
    assert torch.equal(by_samples(finish), finish.batch(clips()))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.name}-{getattr(task, 'changed', '')}")
def test_the_draw_of_a_sample_is_its_row(task: Pretext) -> None:
    draw = drawn(task)
    for b in (0, 7, B - 1):
        alone = draw.sample(b)
        assert alone.label.tolist() == [draw.label[b]]
        assert alone.describe(0) == draw.describe(b)
        assert {field.name for field in dataclasses.fields(alone)} == {f.name for f in dataclasses.fields(draw)}
