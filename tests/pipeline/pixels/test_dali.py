"""The DALI graph against Pillow, numpy and torchvision on the same parameters."""

import dataclasses
import io
import sys
from typing import Literal

import numpy as np
import pytest
import torch
from nvidia.dali import pipeline_def
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from pclkd.pipeline.clips.augment import ClipAugment, centre_crop
from pclkd.pipeline.pixels.colours import MEAN, STD
from pclkd.pipeline.pixels.dali import Colours, FrameDecoder, FrameGraph, UndecodableFramesError
from pclkd.pipeline.pixels.dali_graph import plain_frames, resized_frames

HEIGHT, WIDTH, CROP = 64, 86, 48
CLIPS, FRAMES = 4, 2

BOTH = pytest.mark.parametrize("colours", ["graph", "fused"])


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
    assert out.dtype == torch.float32 and out.shape == (CLIPS, 1, 3, FRAMES, CROP, CROP)
    assert out[:, 0].is_contiguous(memory_format=torch.channels_last_3d)
    return (frames_of(out).double().numpy() * STD + MEAN) * 255


def frames_of(clips: torch.Tensor) -> torch.Tensor:
    """[clips, 1, 3, T, H, W] -> [clips, T, H, W, 3]."""
    return clips[:, 0].permute(0, 2, 3, 4, 1)


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
    # Both decode with libjpeg-turbo, and a window decoded alone has the pixels of the whole frame.
    np.testing.assert_allclose(found, wanted, atol=0.01)


@BOTH
def test_without_changes_the_colour_operators_change_nothing(colours: Colours) -> None:
    np.testing.assert_allclose(run(plain(), colours), run(plain(), "none"), atol=1.01)


@pytest.mark.parametrize("factor", [0.6, 1.3])
@BOTH
def test_brightness_is_a_factor(factor: float, colours: Colours) -> None:
    base = run(plain(), "none")
    found = run(plain(brightness=[factor] * CLIPS), colours)
    np.testing.assert_allclose(found, np.clip(base * factor, 0, 255), atol=1.01)


@pytest.mark.parametrize("factor", [0.6, 1.4])
@BOTH
def test_contrast_scales_the_distance_from_mid_grey(factor: float, colours: Colours) -> None:
    base = run(plain(), "none")
    found = run(plain(contrast=[factor] * CLIPS), colours)
    np.testing.assert_allclose(found, np.clip(128 + (base - 128) * factor, 0, 255), atol=1.5)


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.4])
@BOTH
def test_saturation_equals_torchvision(factor: float, colours: Colours) -> None:
    base = run(plain(), "none")
    found = run(plain(saturation=[factor] * CLIPS), colours)
    frames = torch.from_numpy(base.clip(0, 255) / 255).permute(0, 1, 4, 2, 3)
    wanted = (tv.adjust_saturation(frames, factor) * 255).permute(0, 1, 3, 4, 2).numpy()
    np.testing.assert_allclose(found, wanted, atol=2.0)
    if factor == 0:
        assert np.ptp(found, axis=-1).max() <= 2.0  # grayscale: the three channels agree


@BOTH
def test_hue_turns_colours_and_keeps_luma(colours: Colours) -> None:
    base = run(plain(), "none")
    found = run(plain(hue=[36.0] * CLIPS), colours)
    luma = np.array([0.299, 0.587, 0.114])
    inside = ((found > 1) & (found < 254)).all(-1)  # clipped channels cannot keep their luma
    assert np.abs((found - base) @ luma)[inside].max() < 2.5
    assert np.abs(found - base).mean() > 3


@BOTH
def test_blur_equals_torchvision_and_zero_sigma_copies(colours: Colours) -> None:
    sigmas = [0.0, 0.5, 1.0, 2.0]
    found = run(plain(sigma=sigmas), colours)
    base = run(plain(), "none")
    np.testing.assert_allclose(found[0], base[0], atol=1.01)
    for clip, sigma in list(enumerate(sigmas))[1:]:
        window = 2 * int(np.ceil(3 * sigma)) + 1
        frames = torch.from_numpy(base[clip]).permute(0, 3, 1, 2)
        wanted = tv.gaussian_blur(frames, [window, window], [sigma, sigma]).permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(found[clip], wanted, atol=2.0)


def test_frames_are_handed_to_dali_as_one_batch() -> None:
    """Counted, not timed: calls in the thread that feeds it, which holds the interpreter meanwhile."""
    frames, calls = 600, [0]
    decoder = FrameDecoder(FrameGraph(frames, (CROP, CROP), "fused", "cpu", torch.device("cpu"), 1))
    jpegs, augment = [JPEGS[0]] * frames, centre_crop(np.tile([HEIGHT, WIDTH], (frames // 2, 1)), 1, CROP)

    def count(frame: object, event: str, argument: object) -> None:
        calls[0] += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        decoding = decoder.begin(jpegs, augment)
    finally:
        sys.setprofile(before)
    decoder.wait(decoding)
    assert calls[0] < 2 * frames
    decoder.close()


@BOTH
def test_all_frames_of_a_clip_get_the_same_parameters(colours: Colours) -> None:
    same = [JPEGS[0]] * (CLIPS * FRAMES)
    augment = plain(brightness=[0.7, 1.2, 1.0, 1.4], sigma=[0, 1.0, 0.4, 0], flip=[1, 0, 1, 0], hue=[10, -20, 0, 36])
    out = frames_of(FrameDecoder(graph(colours)).decode(same, augment))
    assert torch.equal(out[:, 0], out[:, 1])
    assert all(not torch.equal(out[0, 0], out[i, 0]) for i in range(1, CLIPS))


GARBAGE = np.frombuffer(b"\xff\xd8\xffnot a picture", np.uint8)


@pytest.mark.parametrize("colours", ["none", "fused"])
def test_a_corrupt_jpeg_fails_its_batch_and_not_the_next_and_kept_outputs_stay(colours: Colours) -> None:
    decoder = FrameDecoder(graph(colours))
    first = decoder.decode(JPEGS, plain())
    kept = first.clone()
    with pytest.raises(UndecodableFramesError):
        decoder.decode([*JPEGS[:-1], GARBAGE], plain())
    again = decoder.decode(JPEGS, plain(top=[1] * CLIPS))
    assert not torch.equal(again, first)
    assert torch.equal(first, kept)
    decoder.close()


@pytest.mark.parametrize(
    "bad",
    [
        {2: GARBAGE},
        {0: JPEGS[0][: len(JPEGS[0]) // 2], 7: JPEGS[7][:100]},
        {1: np.zeros(0, np.uint8), 4: np.zeros(300, np.uint8), 5: GARBAGE},
        dict.fromkeys(range(8), GARBAGE),
    ],
)
def test_frames_that_cannot_be_decoded_are_named(bad: dict[int, np.ndarray]) -> None:
    decoder = FrameDecoder(graph("fused"))
    batch = [bad.get(number, jpeg) for number, jpeg in enumerate(JPEGS)]
    with pytest.raises(UndecodableFramesError, match=f"{len(bad)} frames of the batch cannot be decoded") as caught:
        decoder.decode(batch, plain())
    assert caught.value.frames == tuple(sorted(bad))
    assert torch.equal(decoder.decode(JPEGS, plain()), FrameDecoder(graph("fused")).decode(JPEGS, plain()))
    decoder.close()


@pytest.mark.parametrize("ahead", [1, 2, 3])
@pytest.mark.parametrize("colours", ["none", "fused"])
def test_batches_may_be_decoded_while_those_before_are_finished(colours: Colours, ahead: int) -> None:
    sides = [CROP, CROP, CROP - 8, CROP, CROP - 4]  # the third one makes the graph resize from there on
    augments = [
        plain(top=[number] * CLIPS, flip=[number % 2] * CLIPS, height=[side] * CLIPS, width=[side] * CLIPS)
        for number, side in enumerate(sides)
    ]
    alone = []
    for augment in augments:
        one = FrameDecoder(graph(colours))
        alone.append(one.decode(JPEGS, augment))
        one.close()
    decoder = FrameDecoder(graph(colours))
    found, begun = [], []
    for augment in augments:
        begun.append(decoder.begin(JPEGS, augment))
        if len(begun) > ahead:
            decoder.wait(begun[0])
            found.append(decoder.finish(begun.pop(0)))
    for decoding in begun:
        decoder.wait(decoding)
        found.append(decoder.finish(decoding))
    assert all(torch.equal(one, other) for one, other in zip(found, alone, strict=True))
    decoder.close()


def test_a_batch_that_fails_spoils_neither_those_before_nor_those_after() -> None:
    decoder = FrameDecoder(graph("fused"))
    wanted = [decoder.decode(JPEGS, plain(top=[number] * CLIPS)) for number in range(4)]
    begun = [
        decoder.begin([GARBAGE, *JPEGS[1:]] if number in (1, 2) else JPEGS, plain(top=[number] * CLIPS))
        for number in range(4)
    ]
    decoder.wait(begun[0])
    for number in (1, 2):
        with pytest.raises(UndecodableFramesError) as caught:
            decoder.wait(begun[number])
        assert caught.value.frames == (0,)
    decoder.wait(begun[3])
    assert torch.equal(decoder.finish(begun[3]), wanted[3])
    assert torch.equal(decoder.finish(begun[0]), wanted[0])
    decoder.close()


def test_what_was_begun_and_never_asked_for_is_dropped() -> None:
    decoder = FrameDecoder(graph("fused"))
    wanted = decoder.decode(JPEGS, plain(top=[2] * CLIPS))
    decoder.begin(JPEGS, plain())
    decoder.begin([*JPEGS[:-1], GARBAGE], plain())
    assert torch.equal(decoder.decode(JPEGS, plain(top=[2] * CLIPS)), wanted)
    decoder.begin(JPEGS, plain())
    decoder.close()


def test_a_batch_that_fails_leaves_the_one_before_whole() -> None:
    decoder = FrameDecoder(graph("fused"))
    wanted = decoder.decode(JPEGS, plain())
    good = decoder.begin(JPEGS, plain())
    decoder.wait(good)
    bad = decoder.begin([GARBAGE, *JPEGS[1:]], plain())
    with pytest.raises(UndecodableFramesError) as caught:
        decoder.wait(bad)
    assert caught.value.frames == (0,)
    assert torch.equal(decoder.finish(good), wanted)
    decoder.close()


def test_a_frame_smaller_than_its_window_is_named() -> None:
    """Sound as a JPEG, but not what the index tells of it."""
    decoder = FrameDecoder(graph("none"))
    small = encoded(picture(3)[:40, :40])
    with pytest.raises(UndecodableFramesError, match="window") as caught:
        decoder.decode([*JPEGS[:3], small, *JPEGS[4:]], plain())
    assert caught.value.frames == (3,)


@pytest.mark.parametrize("colours", ["none", "graph", "fused"])
def test_windows_of_other_sizes_are_resized_and_those_of_the_clips_size_are_not(colours: Colours) -> None:
    windows = {"height": [CROP, 60, 30, 20], "width": [CROP, 80, 50, 20], "top": [3, 2, 20, 40], "left": [5, 4, 30, 60]}
    found = run(plain(**windows), colours)
    np.testing.assert_allclose(found[0], run(plain(top=[3] * CLIPS, left=[5] * CLIPS), "none")[0], atol=0.01)
    frames = torch.from_numpy(DECODED).reshape(CLIPS, FRAMES, HEIGHT, WIDTH, 3).permute(0, 1, 4, 2, 3)
    for clip in range(1, CLIPS):
        window = [windows[name][clip] for name in ("top", "left", "height", "width")]
        wanted = tv.resized_crop(frames[clip], *window, [CROP, CROP], antialias=True).permute(0, 2, 3, 1).numpy()
        assert np.abs(found[clip] - wanted).mean() < 0.7
        assert np.percentile(np.abs(found[clip] - wanted), 99) < 4


def test_videos_of_different_sizes_share_a_batch() -> None:
    """Shards packed by their short side: each video keeps its aspect."""
    wide = [encoded(np.pad(picture(i), ((0, 0), (0, 40), (0, 0)), mode="edge")) for i in range(FRAMES)]
    jpegs = [*wide, *JPEGS[FRAMES:]]
    sizes = np.array([[HEIGHT, WIDTH + 40], *[[HEIGHT, WIDTH]] * (CLIPS - 1)])
    augment = centre_crop(sizes, 1, CROP)
    assert augment.left.ravel().tolist() == [(WIDTH + 40 - CROP) // 2] + [(WIDTH - CROP) // 2] * (CLIPS - 1)
    out = FrameDecoder(graph("fused")).decode(jpegs, augment)
    same = FrameDecoder(graph("fused")).decode(JPEGS, plain())
    assert torch.equal(out[1:], same[1:])
    assert not torch.equal(out[0], same[0])


def test_fused_colours_are_refused_on_a_gpu() -> None:
    with pytest.raises(ValueError, match="CPU"):
        FrameDecoder(dataclasses.replace(graph("fused"), device=torch.device("cuda")))


@pytest.mark.parametrize("decode", ["cpu", "mixed"])
@pytest.mark.parametrize("resized", [False, True])
def test_nvjpeg_interpolates_chroma_as_the_cpu_does(decode: Literal["cpu", "mixed"], resized: bool) -> None:
    """The graph as DALI keeps it, whose text has the names of arguments that are not left as they are."""
    graph = FrameGraph(2, (48, 48), "none", decode, torch.device("cpu"), 1)
    define = resized_frames if resized else plain_frames
    text = pipeline_def(batch_size=2, num_threads=1, device_id=None, exec_dynamic=True)(define)(graph).serialize()
    assert decode.encode() in text
    assert text.count(b"jpeg_fancy_upsampling") == 1


class _Recorder:
    """Stands for a pipeline and for a stream of a GPU; writes down what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, object]] = []

    def outputs(self, cuda_stream: object = None) -> tuple[str]:
        self.asked.append(("outputs", cuda_stream))
        return ("frames",)

    def synchronize(self) -> None:
        self.asked.append(("synchronize", None))

    def feed_input(self, name: str, values: object) -> None:
        pass

    def schedule_run(self) -> None:
        self.asked.append(("run", None))


def test_frames_of_a_gpu_are_waited_for_on_the_decoders_own_stream_before_anyone_reads_them() -> None:
    decoder, recorder = FrameDecoder(FrameGraph(2, (48, 48), "none", "cpu", torch.device("cpu"), 1)), _Recorder()
    decoder._pipeline, decoder._stream = recorder, recorder  # type: ignore[assignment]
    decoding = decoder.begin([JPEGS[0]] * 2, centre_crop(np.array([[HEIGHT, WIDTH]]), 1, CROP))
    decoder.wait(decoding)
    assert recorder.asked == [("run", None), ("outputs", recorder), ("synchronize", None)]
    assert decoding.frames == "frames"
