"""What races of `compile=auto` found, kept on this machine: the same network on the same device need not race again.

A file a race in `<cache>/races`, where the cache is $PCLKD_CACHE or ~/.cache/pclkd. Its name is a sum over all that the
result depends on: the network's layers, the shapes and strides of its weights and of the clips, precision, number of
processes, device and versions. Files appear whole, so any number of processes may read and write; the oldest go when
there are many, and one that cannot be read is a race that is run again.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import logging
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.distributed as dist

from pclkd.sharding.common import storage
from pclkd.training.compute.distributed import is_alone
from pclkd.training.compute.precision import Precision
from pclkd.training.models.pcl_model import PclModel

__all__ = ["race_key", "recalled", "remembered"]

_MOST = 256  # files, of half a KiB each
_log = logging.getLogger(__name__)


def race_key(model: PclModel, clips: torch.Tensor, precision: Precision, *, trained: bool) -> dict[str, str]:
    """All that the result of a race depends on, by what it is; arguments as in `compile_backbone`."""
    network = model.base_network
    tensors = [*network.named_parameters(), *network.named_buffers()]
    layers = [str(network), *(f"{name} {_shape(tensor)}" for name, tensor in tensors)]
    return {
        "network": hashlib.sha256("\n".join(layers).encode()).hexdigest(),
        "clips": _shape(clips),
        "precision": precision.name,
        "trained": str(trained),
        "processes": "1" if is_alone() else str(dist.get_world_size()),
        "device": _device(clips.device),
        "torch": f"{torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}",  # type: ignore[no-untyped-call]
        "triton": _version("triton"),
        "pclkd": _version("pclkd"),
    }


def recalled(key: Mapping[str, str]) -> str:
    """What a race with this key found: "off", "on" or "cuda-graphs"; nothing where none is known."""
    try:
        found = json.loads(_file(key).read_text())
        chosen = found["chosen"] if found["key"] == key and found["chosen"] in found["seconds"] else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return str(chosen)


def remembered(key: Mapping[str, str], chosen: str, seconds: Mapping[str, float]) -> str:
    """Keep what a race found, where that can be kept.

    Args:
        key: of the race.
        chosen: what was the fastest.
        seconds: that each candidate took.

    Returns:
        What was chosen.
    """
    file = _file(key)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own: others may be writing the same race.
        handle, part = tempfile.mkstemp(dir=file.parent, suffix=".part")
        with os.fdopen(handle, "w") as out:
            json.dump({"key": dict(key), "chosen": chosen, "seconds": dict(seconds)}, out)
        Path(part).replace(file)
        _forget_oldest(file.parent)
    except OSError as error:
        _log.warning("the race of compile=auto is not remembered: %s", error)
    return chosen


def _forget_oldest(folder: Path) -> None:
    ages = []
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process was as quick
            ages.append((file.stat().st_mtime_ns, file))
    for _, file in sorted(ages)[:-_MOST]:
        file.unlink(missing_ok=True)


def _file(key: Mapping[str, str]) -> Path:
    name = hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()
    return storage.cache_folder() / "races" / f"{name[:32]}.json"


def _device(device: torch.device) -> str:
    """Its kind: GPUs of one kind find the same."""
    if device.type != "cuda":
        return device.type
    found = torch.cuda.get_device_properties(device)
    return f"{found.name}, {found.multi_processor_count} processors, {found.total_memory} bytes"


def _shape(tensor: torch.Tensor) -> str:
    return f"{list(tensor.shape)} {list(tensor.stride())} {tensor.dtype}"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"
