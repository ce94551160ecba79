"""Weights that were trained elsewhere: the published PCL code's checkpoints, torchvision's, and whoever wraps these.

What a file holds is told by its keys. Those of a known backbone are looked for behind any prefix, of the keys or of
the mappings around them: `state_dict`, `module.`, `_orig_mod.`, `encoder_q.`, `backbone.`, `student.`, `model_ema.`.
The published code's prefix is `base_network.`; beside it stand its heads, `fc.*` and `projector.mlp.*`.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from pclkd.pipeline.pretext.base import TUPLE_VIEWS
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.datasets.names import printable
from pclkd.training.models.base import Backbone
from pclkd.training.models.pcl_model import PclModel
from pclkd.training.models.registry import BACKBONE_NAMES, build_backbone
from pclkd.training.models.torchvision import TorchvisionBackbone
from pclkd.training.models.weights_file import UnreadableWeightsError, load_weights_file, refuse_not_finite

__all__ = ["OutsideModel", "read_outside_model"]

State = dict[str, torch.Tensor]

_TRUNK = "base_network."
_HEADS = ("fc.", "projector.")
# What stands on top of others' backbones; nothing here uses it.
_OTHER_HEADS = re.compile(
    r"(fc|mlp|linear|queue|(\w+_)?(classifier|head|heads|projector|projection|predictor|prediction))(\d*|_\w+)(\.|$)"
)
_NAMED_AT_MOST = 6
_MOST_TENSORS = 20_000
_DEEPEST = 8  # mappings within mappings


@dataclass(frozen=True)
class OutsideModel:
    """A network from a file that this project did not write.

    Attributes:
        model: the network; heads that the file does not hold have fresh weights.
        backbone: the backbone's name.
        has_pretext: whether the file holds a pretext classifier (`fc`).
        has_projector: whether it holds a projector.
    """

    model: PclModel
    backbone: str
    has_pretext: bool
    has_projector: bool


def read_outside_model(path: Path, key: str = "") -> OutsideModel:
    """Read weights and build the network that they belong to. Only tensors and plain values are unpickled.

    Args:
        path: the file.
        key: which network of several in the file: the prefix of its keys, or a part of that.

    Raises:
        InputError: not a file of weights, weights of no known network (the keys that are missing and unexpected in the
            nearest one are listed), of several, or weights that are not finite.
    """
    state = _read_state(path)
    name, prefix = _choose(path, state, key)
    trunk = _below(state, prefix)
    heads = {}
    if prefix.endswith(_TRUNK):
        heads = {name: value for name, value in _below(state, prefix.removesuffix(_TRUNK)).items() if _is_head(name)}
    try:
        refuse_not_finite({**trunk, **heads})
    except ValueError as error:
        raise InputError(f"{path}: {error}", remedy="give a checkpoint from before the training diverged") from None
    return _with_heads(path, name, _filled(name, trunk), heads)


def _read_state(path: Path) -> State:
    """All tensors of a file by the names of the mappings that they are in, joined by dots."""
    if not path.is_file():
        raise InputError(f"no file of weights at {path}", remedy="give a checkpoint file")
    try:
        content = load_weights_file(path)
    except UnreadableWeightsError as error:
        raise InputError(
            f"{path} cannot be read as weights ({error})",
            remedy="give a state dict written by torch.save; other pickles are refused because they can run code",
        ) from None
    found = list(islice(_tensors(content, ""), _MOST_TENSORS + 1))
    state = {name: value for name, value in found if value.ndim}
    if not state:
        raise InputError(f"{path} holds no state dict", remedy="save tensors by name, alone or in mappings")
    if len(found) > _MOST_TENSORS:
        raise InputError(f"{path} holds more than {_MOST_TENSORS} tensors", remedy="save those of one network alone")
    return state


def _tensors(content: Any, prefix: str, depth: int = 0) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(content, Mapping) and depth < _DEEPEST:
        for name, value in content.items():
            yield from _tensors(value, f"{prefix}.{name}" if prefix else str(name), depth + 1)
    elif torch.is_tensor(content) and prefix:
        yield prefix, content


def _below(state: State, prefix: str) -> State:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _is_head(name: str) -> bool:
    return name.startswith(_HEADS)


def _choose(path: Path, state: State, key: str) -> tuple[str, str]:
    """The backbone whose keys and shapes these are, and the prefix of its keys."""
    fitting: list[tuple[str, str]] = []
    complaints: list[tuple[int, int, str, str]] = []
    for name in BACKBONE_NAMES:
        with torch.device("meta"):
            wanted = _shapes(build_backbone(name))
        for prefix, _ in _prefixes(state, wanted).most_common(8):
            matching, wrong, told = _compare(_below(state, prefix), wanted)
            if not wrong:
                fitting.append((name, prefix))
            else:
                under = f" (under {printable(prefix)[:-1]})" if prefix else ""
                complaints.append((-matching, wrong, name, f"{name}{under}: {told}"))
    chosen = [(name, prefix) for name, prefix in fitting if not key or f".{key.strip('.')}." in f".{prefix}"]
    if len(chosen) == 1:
        return chosen[0]
    if fitting:
        names = ", ".join(printable(prefix).rstrip(".") or "no prefix" for _, prefix in fitting)
        what = f"holds no network under {key}; there are" if not chosen else f"holds {len(chosen)} networks"
        raise InputError(
            f"{path} {what}: {names}",
            remedy=f"say which with --key, of a teacher with --teacher-key, such as {fitting[0][1].rstrip('.')}",
        )
    if not complaints:
        raise InputError(
            f"{path} fits no known network: it has keys such as {_some(list(state))}",
            remedy=f"give weights of {', '.join(BACKBONE_NAMES)} at full width",
        )
    raise InputError(
        f"{path} fits no known network; nearest is {min(complaints)[3]}",
        remedy=f"give weights of {', '.join(BACKBONE_NAMES)} at full width",
    )


def _prefixes(state: State, wanted: Mapping[str, tuple[int, ...]]) -> "Counter[str]":
    """What stands before a backbone's keys, with how many of them and of what they hold fit."""
    found: Counter[str] = Counter()
    for name, value in state.items():
        cuts = [0, *(place.end() for place in re.finditer(r"\.", name))]
        for cut in cuts:
            if wanted.get(name[cut:]) == tuple(value.shape):
                found[name[:cut]] += 1
    return found


def _compare(trunk: State, wanted: Mapping[str, tuple[int, ...]]) -> tuple[int, int, str]:
    """How many keys fit, how many do not, and which those are."""
    found = {key: tuple(value.shape) for key, value in trunk.items() if not _OTHER_HEADS.match(key)}
    # Older files lack the counters of batch norms, which nothing here uses.
    missing = [key for key in wanted if key not in found and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in found if key not in wanted]
    shapes = [
        f"{printable(key)} {found[key]} for {wanted[key]}"
        for key in found
        if key in wanted and found[key] != wanted[key]
    ]
    told = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    wrong = len(missing) + len(unexpected) + len(shapes)
    fits = len(found) - len(unexpected) - len(shapes)
    return fits, wrong, "; ".join(f"{what}: {_some(keys)}" for what, keys in told if keys)


def _shapes(backbone: Backbone) -> dict[str, tuple[int, ...]]:
    """Keys as the file would have them, torchvision's in torchvision's words; counters, which are scalars, left out."""
    shapes = {key: tuple(value.shape) for key, value in backbone.state_dict().items() if value.ndim}
    if isinstance(backbone, TorchvisionBackbone):
        return {backbone.torchvision_key(key): shape for key, shape in shapes.items()}
    return shapes


def _filled(name: str, trunk: State) -> Backbone:
    backbone = build_backbone(name)
    fresh = backbone.state_dict()
    if isinstance(backbone, TorchvisionBackbone):
        theirs = {backbone.torchvision_key(key): value for key, value in fresh.items()}
        backbone.load_torchvision({key: trunk.get(key, value) for key, value in theirs.items()})
    else:
        backbone.load_state_dict({key: trunk.get(key, value) for key, value in fresh.items()})
    return backbone


def _with_heads(path: Path, name: str, trunk: Backbone, heads: State) -> OutsideModel:
    classifier = heads.get("fc.weight")
    projector = heads.get("projector.mlp.2.weight")
    features = trunk.feature_dim
    if classifier is not None and classifier.shape[1] != TUPLE_VIEWS * features:
        raise InputError(
            f"{path}: fc takes {classifier.shape[1]} numbers, a pretext classifier over {TUPLE_VIEWS} clips of {name} "
            f"takes {TUPLE_VIEWS * features}",
            remedy="give a checkpoint of self-supervised training, not of fine-tuning, or remove fc from it",
        )
    model = PclModel(
        trunk,
        pretext_classes=5 if classifier is None else classifier.shape[0],
        embedding_dim=128 if projector is None else projector.shape[0],
    )
    fresh = {key: value for key, value in model.state_dict().items() if key.startswith(_HEADS)}
    part_of = {"fc": classifier is not None, "projector": projector is not None}
    wanted = {key for key in fresh if part_of[key.split(".")[0]]}
    if wanted != set(heads) or any(fresh[key].shape != heads[key].shape for key in wanted):
        raise InputError(
            f"{path}: heads of {name} are incomplete or of other shapes; "
            f"missing: {_some(sorted(wanted - set(heads)))}; unexpected: {_some(sorted(set(heads) - wanted))}",
            remedy="give a checkpoint whose heads are fc and projector.mlp.0 and .2",
        )
    model.load_state_dict({**fresh, **heads}, strict=False)
    return OutsideModel(model, name, has_pretext=classifier is not None, has_projector=projector is not None)


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - _NAMED_AT_MOST} more" if len(keys) > _NAMED_AT_MOST else ""
    return (", ".join(map(printable, keys[:_NAMED_AT_MOST])) or "none") + more
