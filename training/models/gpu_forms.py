"""The same network in forms that a GPU computes faster: equal to rounding, with the same weights under the same names.

    batch norm         sees maps [N, C, T, H, W] as [N, C, T * H, W]: torch's kernels for channels-last are 4-D
    stem               3 input channels use a fraction of a tensor core: each 2 x 2 pixels become 12 channels, padded to
                       16, and a stride of 2 becomes 1 ("space to depth")
    frozen batch norm  becomes part of the convolution before it: that network says the same in half the launches

None of it has been measured on a GPU; `docs/gpu.md` tells what is expected. Sources of the folded stem: the MLPerf
ResNet-50 submissions of 2018; of folded batch norm: Jacob et al., arXiv 1712.05877, 3.2.
"""

from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

__all__ = ["FlatBatchNorm", "FoldedStem", "fold_batch_norm", "with_gpu_forms"]

Network = TypeVar("Network", bound=nn.Module)
_LANES = 8  # channels that a tensor core takes at once


def with_gpu_forms(network: Network) -> Network:
    """The network, its 3-D batch norms and its stem in these forms, in place; parameters are the same objects.

    Args:
        network: of any kind, in channels-last order.
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm3d:
                setattr(parent, name, _sharing(child, FlatBatchNorm(child.num_features, child.eps, child.momentum)))
            elif type(child) is nn.Conv3d and FoldedStem.suits(child):
                setattr(parent, name, _sharing(child, FoldedStem(child)))
    return network


def _sharing(old: nn.Module, new: nn.Module) -> nn.Module:
    """`new` with the parameters, buffers and mode of `old`."""
    new._parameters, new._buffers = old._parameters, old._buffers
    for name in ("affine", "track_running_stats"):
        if hasattr(old, name):
            setattr(new, name, getattr(old, name))
    return new.train(old.training)


class FlatBatchNorm(nn.BatchNorm2d):
    """Batch norm of [N, C, T, H, W] that sees T and H as one dimension, which changes nothing of its sums."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """[N, C, T, H, W] in the same order in memory."""
        flat = super().forward(maps.flatten(2, 3))
        # Autograd is not to take it for a view: a ReLU in place would then cost its gradient two further copies.
        found: torch.Tensor = torch.ops.aten._unsafe_view(flat, maps.shape)
        return found


class FoldedStem(nn.Conv3d):
    """A convolution with spatial stride 2 over few channels, computed with stride 1 over the pixels of 2 x 2 cells.

    Args:
        convolution: whose place it takes; one that `suits`.
    """

    def __init__(self, convolution: nn.Conv3d) -> None:
        like: Any = convolution
        sizes = {name: getattr(like, name) for name in ("kernel_size", "stride", "padding", "dilation")}
        super().__init__(like.in_channels, like.out_channels, bias=like.bias is not None, device="meta", **sizes)

    @staticmethod
    def suits(convolution: nn.Conv3d) -> bool:
        """Whether it is such a convolution."""
        return (
            convolution.in_channels < _LANES
            and convolution.stride[1:] == (2, 2)
            and convolution.dilation[1:] == (1, 1)
            and convolution.groups == 1
            and convolution.padding_mode == "zeros"
            and not isinstance(convolution.padding, str)
        )

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """[N, C, T, H, W] -> [N, C', T', H', W'], as the convolution that it stands for."""
        if clips.shape[3] % 2 or clips.shape[4] % 2:
            return super().forward(clips)
        rows, columns = (_Side(clips.shape[3 + d], self.kernel_size[1 + d], int(self.padding[1 + d])) for d in (0, 1))
        frames = ((self.stride[0], 1, 1), (int(self.padding[0]), 0, 0), (self.dilation[0], 1, 1))
        return F.conv3d(self._cells(clips, rows, columns), self._kernel(rows, columns), self.bias, *frames)

    def _cells(self, clips: torch.Tensor, rows: "_Side", columns: "_Side") -> torch.Tensor:
        """[N, 16, T, cells, cells], channels-last, in autocast's type: padded, folded and converted in one copy."""
        n, channels, frames, height, width = clips.shape
        kind = clips.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else clips.dtype
        shape = (n, frames, rows.cells, columns.cells, _padded(4 * channels))
        folded = torch.zeros(shape, dtype=dtype, device=clips.device)
        inner = folded[:, :, rows.before :, columns.before :][:, :, : height // 2, : width // 2, : 4 * channels]
        # n = clip, c = channel, t = frame; y and x = cell; v and u = pixel in it
        pixels = clips.reshape(n, channels, frames, height // 2, 2, width // 2, 2)  # n c t y v x u
        inner.view(n, frames, height // 2, width // 2, 2, 2, channels).copy_(pixels.permute(0, 2, 3, 5, 4, 6, 1))
        return folded.permute(0, 4, 1, 2, 3)

    def _kernel(self, rows: "_Side", columns: "_Side") -> torch.Tensor:
        """[C', 16, t, cells, cells], the weight laid out for cells."""
        channels = self.in_channels
        odd = F.pad(self.weight, (columns.odd, columns.behind, rows.odd, rows.behind))
        parts = odd.reshape(*odd.shape[:3], odd.shape[3] // 2, 2, odd.shape[4] // 2, 2)  # o c t y v x u
        cells = parts.permute(0, 4, 6, 1, 2, 3, 5).flatten(1, 3)
        padded = F.pad(cells, (0, 0, 0, 0, 0, 0, 0, _padded(4 * channels) - 4 * channels))
        return padded.contiguous(memory_format=torch.channels_last_3d)


class _Side:
    """Cells along one side of the maps.

    Attributes:
        before: cells of zeros before the first pixel.
        odd: zeros that the kernel gets in front, so that it begins with a cell.
        behind: zeros that it gets behind, so that it ends with one.
        cells: that the convolution needs in all.
    """

    def __init__(self, size: int, kernel: int, padding: int) -> None:
        self.before = (padding + 1) // 2
        self.odd = padding % 2
        self.behind = (kernel + self.odd) % 2
        outputs = (size + 2 * padding - kernel) // 2 + 1
        self.cells = outputs + (kernel + self.odd + self.behind) // 2 - 1


def _padded(channels: int) -> int:
    return -(-channels // _LANES) * _LANES


@torch.no_grad()
def fold_batch_norm(network: nn.Module) -> int:
    """Make each frozen batch norm part of the convolution whose only reader it is, in place.

        w' = w g / sqrt(v + eps),   b' = (b - m) g / sqrt(v + eps) + beta

    What cannot be followed, such as a forward pass that decides by values, stays as it is.

    Args:
        network: in eval mode, with plain batch norms; it is not trained any more.

    Returns:
        Batch norms that are gone.
    """
    if isinstance(network, nn.Conv3d | nn.BatchNorm3d):
        return 0
    try:
        calls = fx.Tracer().trace(network)
    except Exception:  # whatever somebody's forward pass does with what is not a tensor; its parts may be plainer
        return sum(fold_batch_norm(child) for child in network.children())
    modules = dict(network.named_modules())
    called = [node.target for node in calls.nodes if node.op == "call_module"]
    folded = 0
    for node in calls.nodes:
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        before = node.args[0] if norm is not None and node.args else None
        if not (isinstance(norm, nn.BatchNorm3d) and isinstance(before, fx.Node) and before.op == "call_module"):
            continue
        convolution = modules[str(before.target)]
        alone = len(before.users) == 1 and called.count(node.target) == called.count(before.target) == 1
        if alone and isinstance(convolution, nn.Conv3d) and not norm.training and norm.running_var is not None:
            _fold(convolution, norm)
            parent, _, name = str(node.target).rpartition(".")
            setattr(network.get_submodule(parent), name, nn.Identity())
            folded += 1
    return folded


def _fold(convolution: nn.Conv3d, norm: nn.BatchNorm3d) -> None:
    statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    weight, bias = fuse_conv_bn_weights(convolution.weight, convolution.bias, *statistics)  # type: ignore[arg-type]
    convolution.weight.copy_(weight)  # in its own memory layout
    convolution.bias = bias.requires_grad_(False)
