"""Features of many videos in one file, for search: FILE.npz, or FILE.parquet where other tools shall read it.

videos      [N] paths, absolute
features    [N, F] float32, the mean over a video's clips
network     SHA-256 of the weights that gave them: features of two networks cannot be compared
"""

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.files import write_bytes
from pclkd.training.compute.distributed import choose_device
from pclkd.training.exchange.many_videos import Damaged, clips_of
from pclkd.training.exchange.trained_backbone import load_backbone, load_clip_form
from pclkd.training.models.base import Backbone
from pclkd.training.models.memory_layout import placed
from pclkd.training.options import check_file

__all__ = ["FeatureFile", "check_feature_file", "embed_videos", "read_features", "write_features"]

_NPZ, _PARQUET = ".npz", ".parquet"
_EMBED = "write it with train-kd embed"


@dataclass(frozen=True)
class FeatureFile:
    """Features of videos.

    Attributes:
        videos: [N] paths.
        features: [N, F] float32.
        network: SHA-256 of the network's weights.
    """

    videos: tuple[str, ...]
    features: NDArray[np.float32]
    network: str


@torch.inference_mode()
def embed_videos(path: Path, videos: Iterable[str], *, key: str = "", clips: int = 10, damaged: Damaged) -> FeatureFile:
    """Features of videos: of each the mean over its clips.

    Args:
        path: of the network, as `load_backbone` takes it.
        videos: files.
        key: which network of several at that path, as `load_backbone` takes it.
        clips: evenly spaced clips a video.
        damaged: called with each file that cannot be decoded, and why.

    Raises:
        InputError: no such network.
    """
    backbone, form = load_backbone(path, key), load_clip_form(path)
    network, device = _identity(backbone), choose_device()
    backbone = placed(backbone, device)
    names, features = [], []
    for name, shown in clips_of(videos, form, clips, damaged):
        names.append(str(Path(name).absolute()))
        features.append(backbone(shown.to(device)).float().mean(0).cpu().numpy())
    stacked = np.stack(features) if features else np.zeros((0, backbone.feature_dim), np.float32)
    return FeatureFile(tuple(names), stacked, network)


def check_feature_file(path: Path) -> None:
    """Refuse a file that could not be written: a name of neither format, no folder for it, pyarrow missing.

    Raises:
        InputError: one of these.
    """
    _check_format(path)
    check_file(path)
    if not path.parent.is_dir():
        raise InputError(f"no folder {path.parent} for {path.name}", remedy="make it first")


def _check_format(path: Path) -> None:
    if path.suffix not in (_NPZ, _PARQUET):
        raise InputError(f"{path} is neither {_NPZ} nor {_PARQUET}", remedy="end the name of the file in one of them")
    if path.suffix == _PARQUET:
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise InputError(f"{path}: Parquet needs pyarrow", remedy="pip install 'pclkd[parquet]'") from None


def write_features(path: Path, found: FeatureFile) -> None:
    """Write features to a file, whole or not at all.

    Raises:
        InputError: see `check_feature_file`.
    """
    check_feature_file(path)
    buffer = io.BytesIO()
    if path.suffix == _NPZ:
        np.savez(buffer, videos=np.array(found.videos, str), features=found.features, network=np.array(found.network))
    else:
        import pyarrow
        from pyarrow import parquet

        rows = pyarrow.FixedSizeListArray.from_arrays(found.features.ravel(), found.features.shape[1])
        names = [name.encode(errors="backslashreplace").decode() for name in found.videos]  # Parquet's are UTF-8
        table = pyarrow.table({"video": pyarrow.array(names, pyarrow.string()), "features": rows})
        parquet.write_table(table.replace_schema_metadata({"network": found.network}), buffer)
    write_bytes(path, buffer.getvalue())


def read_features(path: Path) -> FeatureFile:
    """Read what `write_features` wrote.

    Raises:
        InputError: no such file, or it is none of these.
    """
    _check_format(path)
    if not path.is_file():
        raise InputError(f"no features at {path}", remedy=_EMBED)
    try:
        if path.suffix == _NPZ:
            with np.load(path) as file:
                return FeatureFile(tuple(file["videos"].tolist()), file["features"], str(file["network"]))
        from pyarrow import parquet

        table = parquet.read_table(path)
        rows = table["features"].combine_chunks()
        features = rows.values.to_numpy().reshape(len(table), -1)
        return FeatureFile(tuple(table["video"].to_pylist()), features, table.schema.metadata[b"network"].decode())
    except Exception as error:  # the readers raise whatever a damaged file leads them to
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} cannot be read as features ({reason})", remedy=_EMBED) from None


def _identity(backbone: Backbone) -> str:
    found = hashlib.sha256()
    for name, value in backbone.state_dict().items():
        found.update(name.encode() + value.detach().contiguous().numpy().tobytes())
    return found.hexdigest()
