"""The DALI graph against Pillow, numpy and torchvision on the same parameters."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from pclkd.pipeline.augment import ClipAugment, centre_crop
from pclkd.pipeline.colours import MEAN, STD
from pclkd.pipeline.dali import Colours, FrameDecoder, FrameGraph, UndecodableFramesError

HEIGHT, WIDTH, CROP = 64, 86, 48
CLIPS, FRAMES = 4, 2


def picture(seed: int) -> np.ndarray:
    """A smooth colourful picture [H, W, 3] uint8: JPEG keeps it nearly as it is."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(30, 220, (6, 8, 3), dtype=np.uint8))
    return np.asarray(small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


def encoded(pixels: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return np.frombuffer(buffer.getvalue(), np.uint8)


JPEGS = [encoded(picture(i)) for i in range(CLIPS * FRAMES)]
DECODED = np.stack([np.asarray(Image.open(io.BytesIO(jpeg.tobytes()))) for jpeg in JPEGS])


def graph(colours: Colours) -> FrameGraph:
    return FrameGraph(CLIPS * FRAMES, (CROP, CROP), colours, "cpu", torch.device("cpu"), 2)


def run(augment: ClipAugment, colours: Colours) -> np.ndarray:
    """[clips, frames, H, W, 3] in 0..255, the normalisation undone."""
    out = FrameDecoder(graph(colours)).decode(JPEGS, augment)
    assert out.dtype == torch.float32 and out.shape == (CLIPS * FRAMES, CROP, CROP, 3)
    pixels = (out.double().numpy() * STD + MEAN) * 255
    return pixels.reshape(CLIPS, FRAMES, CROP, CROP, 3)


def plain(**changes: list[float]) -> ClipAugment:
    augment = centre_crop(np.tile([HEIGHT, WIDTH], (CLIPS, 1)), 1, CROP)
    return dataclasses.replace(
        augment,
        **{name: np.array(values, getattr(augment, name).dtype).reshape(CLIPS, 1) for name, values in changes.items()},
    )


def reference(tops: list[int], lefts: list[int]) -> np.ndarray:
    clips = DECODED.reshape(CLIPS, FRAMES, HEIGHT, WIDTH, 3).astype(np.float64)
    return np.stack([clips[i, :, t : t + CROP, x : x + CROP] for i, (t, x) in enumerate(zip(tops, lefts, strict=True))])


def test_crop_flip_and_normalise_equal_pillow() -> None:
    tops, lefts = [0, 16, 8, 3], [0, 38, 19, 7]
    found = run(plain(top=tops, left=lefts, flip=[0, 1, 0, 1]), "none")
    wanted = reference(tops, lefts)
    wanted[1::2] = wanted[1::2, :, :, ::-1]
    # Both decode with libjpeg-turbo; a crop may start within a chroma block, whose interpolation then differs a little.
    assert np.abs(found - wanted).max() <= 8
    assert np.abs(found - wanted).mean() < 0.3


def test_without_changes_the_colour_operators_change_nothing() -> None:
    np.testing.assert_allclose(run(plain(), "graph"), run(plain(), "none"), atol=1.01)


@pytest.mark.parametrize("factor", [0.6, 1.3])
def test_brightness_is_a_factor(factor: float) -> None:
    base = run(plain(), "none")
    found = run(plain(brightness=[factor] * CLIPS), "graph")
    np.testing.assert_allclose(found, np.clip(base * factor, 0, 255), atol=1.01)


@pytest.mark.parametrize("factor", [0.6, 1.4])
def test_contrast_scales_the_distance_from_mid_grey(factor: float) -> None:
    base = run(plain(), "none")
    found = run(plain(contrast=[factor] * CLIPS), "graph")
    np.testing.assert_allclose(found, np.clip(128 + (base - 128) * factor, 0, 255), atol=1.5)


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.4])
def test_saturation_equals_torchvision(factor: float) -> None:
    base = run(plain(), "none")
    found = run(plain(saturation=[factor] * CLIPS), "graph")
    frames = torch.from_numpy(base.clip(0, 255) / 255).permute(0, 1, 4, 2, 3)
    wanted = (tv.adjust_saturation(frames, factor) * 255).permute(0, 1, 3, 4, 2).numpy()
    np.testing.assert_allclose(found, wanted, atol=2.0)
    if factor == 0:
        assert np.ptp(found, axis=-1).max() <= 2.0  # grayscale: the three channels agree


def test_hue_turns_colours_and_keeps_luma() -> None:
    base = run(plain(), "none")
    found = run(plain(hue=[36.0] * CLIPS), "graph")
    luma = np.array([0.299, 0.587, 0.114])
    inside = ((found > 1) & (found < 254)).all(-1)  # clipped channels cannot keep their luma
    assert np.abs((found - base) @ luma)[inside].max() < 2.5
    assert np.abs(found - base).mean() > 3


def test_blur_equals_torchvision_and_zero_sigma_copies() -> None:
    sigmas = [0.0, 0.5, 1.0, 2.0]
    found = run(plain(sigma=sigmas), "graph")
    base = run(plain(), "none")
    np.testing.assert_allclose(found[0], base[0], atol=1.01)
    for clip, sigma in list(enumerate(sigmas))[1:]:
        window = 2 * int(np.ceil(3 * sigma)) + 1
        frames = torch.from_numpy(base[clip]).permute(0, 3, 1, 2)
        wanted = tv.gaussian_blur(frames, [window, window], [sigma, sigma]).permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(found[clip], wanted, atol=2.0)


def test_all_frames_of_a_clip_get_the_same_parameters() -> None:
    same = [JPEGS[0]] * (CLIPS * FRAMES)
    augment = plain(brightness=[0.7, 1.2, 1.0, 1.4], sigma=[0, 1.0, 0.4, 0], flip=[1, 0, 1, 0], hue=[10, -20, 0, 36])
    out = FrameDecoder(graph("graph")).decode(same, augment).reshape(CLIPS, FRAMES, -1)
    assert torch.equal(out[:, 0], out[:, 1])
    assert all(not torch.equal(out[0, 0], out[i, 0]) for i in range(1, CLIPS))


def test_a_corrupt_jpeg_fails_its_batch_and_not_the_next_and_kept_outputs_stay() -> None:
    decoder = FrameDecoder(graph("none"))
    first = decoder.decode(JPEGS, plain())
    kept = first.clone()
    with pytest.raises(UndecodableFramesError):
        decoder.decode([*JPEGS[:-1], np.frombuffer(b"\xff\xd8\xffnot a picture", np.uint8)], plain())
    again = decoder.decode(JPEGS, plain(top=[1] * CLIPS))
    assert not torch.equal(again, first)
    assert torch.equal(first, kept)
