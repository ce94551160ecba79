"""Colours, chroma places, turns and sharpness of stored frames, each against a derivation of its own."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from pclkd.sharding.video.decode import decode_video
from pclkd.sharding.video.frames import encode_planes
from pclkd.sharding.video.scale import RGB, YUV_420, YUV_444, Scaler

LOSSLESS = {"qp": "0", "preset": "ultrafast"}
# Red and blue weights of each matrix (ITU-R BT.601, BT.709, BT.2020), by its number in H.273.
WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
PATCHES = np.array(
    [[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255], [90, 160, 40], [200, 120, 220], [128, 128, 128]]
)


def to_yuv(rgb: np.ndarray, matrix: int, *, full: bool) -> np.ndarray:
    """Y'CbCr of 8 bits from R'G'B', by the formulas of BT.601."""
    red, blue = WEIGHTS[matrix]
    values = rgb / 255
    luma = values @ np.array([red, 1 - red - blue, blue])
    chroma = [(values[..., 2] - luma) / (2 - 2 * blue), (values[..., 0] - luma) / (2 - 2 * red)]
    yuv = (
        [luma * 255, *(128 + 255 * c for c in chroma)] if full else [16 + 219 * luma, *(128 + 224 * c for c in chroma)]
    )
    return np.clip(np.rint(np.stack(yuv, axis=-1)), 0, 255).astype(np.uint8)


def patch_frame(colours: np.ndarray, side: int, chroma_step: int) -> list[np.ndarray]:
    """Planes of a row of square patches, one a colour."""
    planes = []
    for channel in range(colours.shape[-1]):
        step = 1 if channel == 0 else chroma_step
        planes.append(np.tile(np.repeat(colours[:, channel], side // step), (side // step, 1)))
    return planes


def first_frame(path: Path) -> av.VideoFrame:
    with decode_video(path) as video:
        return next(video.frames)[0]


def patch_colours(picture: np.ndarray) -> np.ndarray:
    """Mean colour of the middle of each patch."""
    height, width = picture.shape[:2]
    side = width / len(PATCHES)
    middle = slice(height // 4, 3 * height // 4)
    columns = [slice(round((k + 0.3) * side), round((k + 0.7) * side)) for k in range(len(PATCHES))]
    return np.array([picture[middle, column].reshape(-1, 3).mean(axis=0) for column in columns])


@pytest.mark.parametrize("chroma", [YUV_420, YUV_444])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 5, 6, 9])
def test_tagged_colours_survive_to_every_jpeg_decoder(
    write_video, tmp_path: Path, matrix: int, full: bool, chroma: str
) -> None:
    planes = patch_frame(to_yuv(PATCHES, matrix, full=full), 48, 2)
    tags = {"colorspace": matrix, "color_range": 2 if full else 1}
    path = write_video(tmp_path / "v.mkv", [planes], options=LOSSLESS, tags=tags)
    frame = first_frame(path)
    assert (frame.colorspace, frame.color_range) == (matrix, tags["color_range"])
    jpeg = encode_planes(Scaler(36, 288, chroma)(frame), 95)
    for picture in (simplejpeg.decode_jpeg(jpeg), np.asarray(Image.open(io.BytesIO(jpeg)))):
        assert np.abs(patch_colours(picture) - PATCHES).max() < 3


def test_colours_in_dali(write_video, tmp_path: Path) -> None:
    from nvidia.dali import fn, pipeline_def

    planes = patch_frame(to_yuv(PATCHES, 1, full=False), 48, 2)
    path = write_video(tmp_path / "v.mp4", [planes], options=LOSSLESS, tags={"colorspace": 1, "color_range": 1})
    jpeg = encode_planes(Scaler(36, 288, YUV_420)(first_frame(path)), 95)

    @pipeline_def(batch_size=1, num_threads=1, device_id=None)
    def graph():
        return fn.decoders.image(fn.external_source([[np.frombuffer(jpeg, np.uint8)]]), device="cpu")

    (pictures,) = graph().run()
    assert np.abs(patch_colours(pictures.at(0)) - PATCHES).max() < 3


@pytest.mark.parametrize(("side", "matrix"), [(48, 5), (160, 1)])
def test_untagged_video_is_taken_as_players_take_it(write_video, tmp_path: Path, side: int, matrix: int) -> None:
    """8 patches of 48 pixels are SD, of 160 pixels HD."""
    planes = patch_frame(to_yuv(PATCHES, matrix, full=False), side, 2)
    path = write_video(tmp_path / "v.mkv", [planes], options=LOSSLESS)
    frame = first_frame(path)
    assert frame.colorspace == 2
    (picture,) = Scaler(36, 288, RGB)(frame)
    assert np.abs(patch_colours(picture) - PATCHES).max() < 3


@pytest.mark.parametrize(
    ("codec", "pixels", "step"),
    [("mjpeg", "yuvj420p", 2), ("ffv1", "yuv444p", 1), ("mjpeg", "yuvj444p", 1), ("libvpx-vp9", "yuv444p", 1)],
)
def test_other_codecs_and_pixel_formats(write_video, tmp_path: Path, codec: str, pixels: str, step: int) -> None:
    full = pixels.startswith("yuvj")
    planes = patch_frame(to_yuv(PATCHES, 5, full=full), 48, step)
    options = {"lossless": "1"} if codec == "libvpx-vp9" else {"qmin": "1", "qmax": "2"}
    tags = {"colorspace": 5, "color_range": 2 if full else 1}
    path = write_video(tmp_path / "v.mkv", [planes], codec=codec, pixels=pixels, options=options, tags=tags)
    jpeg = encode_planes(Scaler(36, 288, YUV_444)(first_frame(path)), 95)
    assert np.abs(patch_colours(simplejpeg.decode_jpeg(jpeg)) - PATCHES).max() < 5


def test_rgb_grey_and_ten_bits(tmp_path: Path) -> None:
    row = np.tile(np.repeat(PATCHES.astype(np.uint8), 48, axis=0), (48, 1, 1))
    rgb = av.VideoFrame.from_ndarray(row, format="rgb24")
    grey = av.VideoFrame.from_ndarray(row[..., 0].copy(), format="gray")
    deep = av.VideoFrame(384, 48, "yuv420p10le")
    for plane, values in zip(deep.planes, patch_frame(to_yuv(PATCHES, 1, full=False), 48, 2), strict=True):
        padded = np.zeros((plane.height, plane.line_size // 2), "<u2")
        padded[:, : plane.width] = values.astype("<u2") << 2
        plane.update(padded.tobytes())
    deep.colorspace = 1
    wanted = ((rgb, PATCHES), (deep, PATCHES), (grey, np.repeat(PATCHES[:, :1], 3, axis=1)))
    for frame, colours in wanted:
        jpeg = encode_planes(Scaler(36, 288, YUV_420)(frame), 95)
        assert np.abs(patch_colours(simplejpeg.decode_jpeg(jpeg)) - colours).max() < 3


@pytest.mark.parametrize("width", [171, 160, 320])
@pytest.mark.parametrize(("codec", "place"), [("libx264", 0.5), ("mjpeg", 1.0)])
def test_chroma_lies_where_jpeg_wants_it(write_video, tmp_path: Path, codec: str, place: float, width: int) -> None:
    """H.264 samples chroma in the middle of every second luma column, MJPEG and JPEG between two columns.

    An edge between chroma samples n - 1 and n is then at luma place 2 n - 1 + `place`. The sum of a row tells where it
    is in the result, to a fraction of a pixel. Odd widths stretch chroma by half a pixel to each side, no more.
    """
    low, high = 60, 200
    places, frames = range(60, 100, 2), []
    for edge in places:
        blue = np.where(np.arange(160) < edge, low, high).astype(np.uint8)
        flat = [np.full((240, 320), 120, np.uint8), np.tile(blue, (120, 1)), np.full((120, 160), 128, np.uint8)]
        frames.append(flat)
    pixels = "yuv420p" if codec == "libx264" else "yuvj420p"
    options = LOSSLESS if codec == "libx264" else {"qmin": "1", "qmax": "1"}
    path = write_video(
        tmp_path / "v.mkv",
        frames,
        codec=codec,
        pixels=pixels,
        options=options,
        tags={"colorspace": 5, "color_range": 1 if codec == "libx264" else 2},
    )
    scaler_errors = []
    with decode_video(path) as video:
        scale = Scaler(120, width, YUV_420, video.codec)
        for edge, (frame, _) in zip(places, video.frames, strict=True):
            row = scale(frame)[1].astype(float).mean(axis=0)
            left, right = row[:8].mean(), row[-8:].mean()
            found = 2 * ((right - row) / (right - left)).sum()
            scaler_errors.append(found - (2 * edge - 1 + place) * width / 320)
    assert abs(np.mean(scaler_errors)) < 0.06
    assert np.abs(scaler_errors).max() < (0.5 if width % 2 else 0.06)


ALL_TURNS = [
    (a, b, c, d) for one in (1, -1) for other in (1, -1) for a, b, c, d in ((one, 0, 0, other), (0, one, other, 0))
]


def with_matrix(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Write a display matrix into the track header of an MP4 file."""
    raw = bytearray(path.read_bytes())
    start = raw.index(b"tkhd") + 4 + 40  # version 0: the matrix follows 40 bytes of times and layers
    a, b, c, d = matrix
    fields = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]
    raw[start : start + 36] = b"".join(field.to_bytes(4, "big", signed=True) for field in fields)
    path.write_bytes(raw)


@pytest.mark.parametrize("size", [(60, 80), (61, 83)])
@pytest.mark.parametrize("pixels", [YUV_420, YUV_444, RGB])
@pytest.mark.parametrize("matrix", ALL_TURNS)
def test_frames_are_turned_as_the_display_matrix_says(
    write_video, tmp_path: Path, matrix: tuple[int, int, int, int], pixels: str, size: tuple[int, int]
) -> None:
    # A corner each in its own colour.
    corners = np.array([[[250, 20, 20], [20, 200, 20]], [[30, 30, 250], [240, 240, 240]]])
    yuv = to_yuv(corners, 5, full=False)
    planes = [np.kron(yuv[..., k], np.ones((60, 80) if k == 0 else (30, 40), np.uint8)) for k in range(3)]
    path = write_video(tmp_path / "v.mp4", [planes], options=LOSSLESS, tags={"colorspace": 5, "color_range": 1})
    with_matrix(path, matrix)
    a, b, c, d = matrix
    height, width = size
    result = Scaler(height, width, pixels)(first_frame(path))
    picture = result[0] if pixels == RGB else simplejpeg.decode_jpeg(encode_planes(result, 95))
    assert picture.shape == (height, width, 3)
    for row, y in enumerate((-1, 1)):
        for column, x in enumerate((-1, 1)):
            # Where the matrix takes the corner (x, y), seen from the middle.
            across, down = a * x + c * y, b * x + d * y
            seen = picture[height // 4 if down < 0 else 3 * height // 4, width // 4 if across < 0 else 3 * width // 4]
            assert np.abs(seen.astype(int) - corners[row, column]).max() < 6


@pytest.mark.parametrize(("orientation", "quarters"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_cameras_mjpeg_is_turned_as_exif_says(tmp_path: Path, orientation: int, quarters: int) -> None:
    """EXIF 6: turn right by a quarter, 8: left (TIFF 6.0, tag 274). PyAV cannot list such a frame's side data."""
    corners = np.array([[[250, 20, 20], [20, 200, 20]], [[30, 30, 250], [240, 240, 240]]], np.uint8)
    still, tags = io.BytesIO(), Image.Exif()
    tags[274] = orientation
    Image.fromarray(corners.repeat(48, 0).repeat(64, 1)).save(still, "JPEG", quality=95, exif=tags)
    path = tmp_path / "v.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuvj420p"
        container.start_encoding()
        packet = av.Packet(still.getvalue())
        packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, 0, 0, True
        container.mux(packet)
    with decode_video(path) as video:
        (picture,) = Scaler(60, 60, RGB, video.codec)(next(video.frames)[0])
    seen = picture[15::30, 15::30].astype(int)
    assert np.abs(seen - np.rot90(corners.astype(int), quarters)).max() < 8


def test_turned_frames_are_the_upright_ones_turned(write_video, synthetic_videos, tmp_path: Path) -> None:
    """Pixel for pixel where nothing has to be sampled anew."""
    frame = first_frame(next(iter(sorted(synthetic_videos.videos.glob("*/*.avi")))))
    planes = [np.frombuffer(memoryview(p), np.uint8).reshape(-1, p.line_size)[:, : p.width] for p in frame.planes]
    path = write_video(tmp_path / "v.mp4", [planes], options=LOSSLESS)
    upright = Scaler(120, 160, YUV_420)(first_frame(path))
    with_matrix(path, (0, 1, -1, 0))
    turned = Scaler(160, 120, YUV_420)(first_frame(path))
    for before, after in zip(upright, turned, strict=True):
        np.testing.assert_array_equal(after, np.rot90(before, -1))


@pytest.mark.real_videos
def test_scaling_is_as_good_as_a_float_filter(ucf101_sample) -> None:
    """Luma against Pillow's bicubic filter in float; the filters differ in one parameter (-0.6 and -0.5)."""
    for path in sorted(ucf101_sample.videos.glob("*/*.avi"))[::15]:
        frame = first_frame(path)
        plane = frame.planes[0]
        luma = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:, : plane.width]
        exact = Image.fromarray((luma.astype(np.float32) - 16) * 255 / 219).resize((171, 128), Image.Resampling.BICUBIC)
        ours = Scaler(128, 171, YUV_420)(frame)[0]
        error = np.mean((ours - np.clip(np.asarray(exact), 0, 255)) ** 2)
        assert 10 * np.log10(255**2 / error) > 43
