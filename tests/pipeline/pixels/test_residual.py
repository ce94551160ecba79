import pytest
import torch

from pclkd.pipeline.pixels.finish import residual, residual_


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("loader_memory", [True, False])
def test_each_frame_is_taken_from_its_predecessor(frames: int, loader_memory: bool) -> None:
    clips = torch.randn(2, 3, 3, frames, 4, 6, generator=torch.Generator().manual_seed(frames))
    if loader_memory:
        clips = clips.permute(0, 1, 3, 4, 5, 2).contiguous().permute(0, 1, 5, 2, 3, 4)
    before = clips.clone()
    result = residual(clips)
    assert torch.equal(clips, before)
    assert result.stride() == clips.stride() or frames == 1
    for t in range(frames):
        # In Python, -1 is the last frame: the one that frame 0 is taken from.
        assert torch.equal(result[:, :, :, t], before[:, :, :, t - 1] - before[:, :, :, t])
    assert result.sum(3).abs().max() < 1e-4  # around the circle, nothing is left
    in_place = residual_(clips)
    assert in_place is clips and torch.equal(in_place, result)


def test_a_clip_alone_gives_what_it_gives_in_a_batch() -> None:
    clips = torch.randn(2, 3, 3, 4, 4, 4)
    assert torch.equal(residual(clips)[1, 2], residual(clips[1, 2]))
