"""What JPEG takes from the frames: PSNR, SSIM and bytes at several qualities, measured on the originals of a set."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg  # type: ignore[import-untyped]

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import sha256_of
from pclkd.sharding.common.storage import join, local_copy
from pclkd.sharding.datasets.names import unprintable
from pclkd.sharding.shards.index import ShardIndex
from pclkd.sharding.shards.samples import read_frames, read_notes
from pclkd.sharding.video.frames import UnreadableVideoError, encode_planes, open_pixels, open_planes
from pclkd.sharding.video.settings import CHROMAS

__all__ = ["QUALITIES", "QualityRow", "QualityTable", "luma", "measure_quality", "psnr", "ssim"]


Picture = npt.NDArray[np.float64]

_PEAK = 255.0
_HIGHEST_DB = 60.0
_RADIUS = 5
_SIGMA = 1.5
_LUMA = np.array([0.299, 0.587, 0.114])  # BT.601, as in JPEG files


def luma(rgb: npt.NDArray[np.uint8]) -> Picture:
    """Return the luma of a picture, uint8 [H, W, 3] in RGB, as float64 [H, W] from 0 to 255."""
    weighted: Picture = rgb @ _LUMA
    return weighted


def psnr(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Return the peak signal-to-noise ratio of two pictures with values from 0 to 255, in dB over all channels.

    It ends at 60 dB, a quarter of a step of 8 bits: equal pictures would be infinitely good, and spoil every mean.
    """
    error = float(np.mean(np.square(np.asarray(one, np.float64) - np.asarray(other, np.float64))))
    highest_error = _PEAK**2 / 10 ** (_HIGHEST_DB / 10)
    return float(10 * np.log10(_PEAK**2 / max(error, highest_error)))


def ssim(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Return the mean structural similarity of two pictures, [H, W] or [H, W, C] with values from 0 to 255.

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment", IEEE TIP 2004: a Gaussian window of 11 x 11 pixels
    with sigma 1.5, K1 = 0.01, K2 = 0.03, population variances, only windows that lie inside the picture. With channels
    it is their mean.
    """
    x, y = np.asarray(one, np.float64), np.asarray(other, np.float64)
    mean_x, mean_y = _blurred(x), _blurred(y)
    variances = _blurred(x * x) - mean_x**2 + _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    small, large = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2
    likeness = (2 * mean_x * mean_y + small) * (2 * covariance + large)
    return float(np.mean(likeness / ((mean_x**2 + mean_y**2 + small) * (variances + large))))


def _blurred(picture: Picture) -> Picture:
    """Return Gaussian means of every window inside the picture, [H - 10, W - 10, ...]."""
    side, inside = 2 * _RADIUS + 1, slice(_RADIUS, -_RADIUS)
    return np.asarray(cv2.GaussianBlur(picture, (side, side), _SIGMA)[inside, inside], np.float64)


QUALITIES = (75, 80, 85, 90, 95)

ItemT = TypeVar("ItemT")


@dataclass(frozen=True)
class QualityRow:
    """One way of storing the frames; the figures are means over the frames.

    Attributes:
        quality: JPEG quality, 1 to 95.
        chroma: "4:2:0" or "4:4:4".
        stored: whether these are the bytes that the set holds, not ones encoded for the measurement.
        bytes_per_frame: length of a JPEG.
        psnr_rgb_db: over red, green and blue.
        psnr_rgb_db_worst: the least of any frame.
        psnr_luma_db: of the luma alone.
        ssim_rgb: mean over red, green and blue.
        ssim_luma: of the luma alone.
    """

    quality: int
    chroma: str
    stored: bool
    bytes_per_frame: float
    psnr_rgb_db: float
    psnr_rgb_db_worst: float
    psnr_luma_db: float
    ssim_rgb: float
    ssim_luma: float


@dataclass(frozen=True)
class QualityTable:
    """The rows, what the set stores first, and on how many videos and frames they were measured."""

    rows: tuple[QualityRow, ...]
    videos: int
    frames: int


def measure_quality(
    index: ShardIndex,
    originals: str | Path,
    *,
    videos: int = 64,
    frames: int = 3,
    step: Callable[[str], None] = lambda _: None,
) -> QualityTable:
    """Compare frames stored in several ways with the scaled originals.

    The reference is the decoded frame, brought to the stored size by the packer's own scaler, as 8-bit RGB and without
    JPEG: the figures tell what JPEG and its chroma sampling cost, and nothing of the scaling. Videos lie evenly over
    the set and frames evenly over each video, so that the same set gives the same table.

    Args:
        index: the shard set.
        originals: what the set was packed from, a folder or a table of videos, as path or URL.
        videos: how many videos to look at, at most.
        frames: how many frames of each, at most.
        step: called with the key of each video that is through.

    Raises:
        InputError: an original is not there, is not the file that was packed, or cannot be read.
    """
    settings = index.manifest.settings
    stored: list[_Likeness] = []
    encoded: dict[tuple[str, int], list[_Likeness]] = {(chroma, each): [] for chroma in CHROMAS for each in QUALITIES}
    samples = _evenly(len(index), videos)
    for sample in samples:
        numbers = _evenly(index.frame_count(sample), frames)
        with _original(index, sample, originals) as path:
            with open_pixels(path, settings) as video:
                references = [_Reference(pixels) for pixels in _picked(video.frames, numbers)]
            lengths = index.frame_length[int(index.sample_frames[sample]) + np.array(numbers)].tolist()
            frames_there = zip(references, read_frames(index, sample, numbers), lengths, strict=True)
            stored += [reference.likeness(frame, length) for reference, frame, length in frames_there]
            for chroma in CHROMAS:
                with open_planes(path, dataclasses.replace(settings, chroma=chroma)) as video:
                    for reference, planes in zip(references, _picked(video.frames, numbers), strict=True):
                        for each in QUALITIES:
                            jpeg = encode_planes(planes, each)
                            encoded[chroma, each].append(reference.likeness(simplejpeg.decode_jpeg(jpeg), len(jpeg)))
        step(index.key(sample))
    rows = [_row(settings.quality, settings.chroma, stored, stored=True)]
    rows += [_row(each, chroma, found, stored=False) for (chroma, each), found in encoded.items()]
    return QualityTable(tuple(rows), len(samples), len(stored))


def _evenly(count: int, at_most: int) -> list[int]:
    """Return the middles of `at_most` equal stretches of `count` things; all things when there are fewer."""
    picks = min(count, at_most)
    return [(2 * pick + 1) * count // (2 * picks) for pick in range(picks)]


@contextmanager
def _original(index: ShardIndex, sample: int, originals: str | Path) -> Iterator[Path]:
    """Give a local path of the file that a sample was made from."""
    notes = read_notes(index, sample)
    if notes.get("span"):
        raise InputError(
            f"video {index.key(sample)} in {index.root} is a span of a longer one",
            remedy="measure a set of whole videos with the same settings",
        )
    # A table of videos names them as seen from its folder.
    folder = str(originals).rpartition("/")[0] or "." if str(originals).endswith(".csv") else originals
    url = join(folder, unprintable(notes["source"]))
    try:
        with local_copy(url) as path:
            if sha256_of(path) != notes["source_sha256"]:
                raise InputError(
                    f"{url} is not the file that video {index.key(sample)} in {index.root} was made from",
                    remedy="give the folder of videos that the set was packed from",
                )
            yield path
    except FileNotFoundError:
        raise InputError(
            f"no original of video {index.key(sample)} at {url}",
            remedy="give the folder of videos that the set was packed from",
        ) from None
    except UnreadableVideoError as error:
        raise InputError(f"{url} {error}", remedy="see whether the disk is sound") from error


def _picked(frames: Iterator[ItemT], numbers: list[int]) -> Iterator[ItemT]:
    """Give the frames with these numbers, ascending."""
    wanted = iter(numbers)
    number = next(wanted)
    for position, frame in enumerate(frames):
        if position == number:
            yield frame
            number = next(wanted, -1)
            if number < 0:
                return


@dataclass(frozen=True)
class _Likeness:
    length: int
    psnr_rgb: float
    psnr_luma: float
    ssim_rgb: float
    ssim_luma: float


class _Reference:
    """A frame as it would be without loss."""

    def __init__(self, pixels: npt.NDArray[np.uint8]) -> None:
        self.pixels = pixels.copy()
        self.luma = luma(pixels)

    def likeness(self, decoded: npt.NDArray[np.uint8], length: int) -> _Likeness:
        light = luma(decoded)
        return _Likeness(
            length,
            psnr(self.pixels, decoded),
            psnr(self.luma, light),
            ssim(self.pixels, decoded),
            ssim(self.luma, light),
        )


def _row(quality: int, chroma: str, found: list[_Likeness], *, stored: bool) -> QualityRow:
    return QualityRow(
        quality=quality,
        chroma=chroma,
        stored=stored,
        bytes_per_frame=round(float(np.mean([each.length for each in found])), 1),
        psnr_rgb_db=round(float(np.mean([each.psnr_rgb for each in found])), 3),
        psnr_rgb_db_worst=round(min(each.psnr_rgb for each in found), 3),
        psnr_luma_db=round(float(np.mean([each.psnr_luma for each in found])), 3),
        ssim_rgb=round(float(np.mean([each.ssim_rgb for each in found])), 5),
        ssim_luma=round(float(np.mean([each.ssim_luma for each in found])), 5),
    )
