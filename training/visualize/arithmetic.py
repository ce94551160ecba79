"""What features of some videos say without any label: how alike two networks see them, and in how many directions."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

__all__ = ["Plane", "Spectrum", "linear_cka", "principal_plane", "spectrum_of"]


def linear_cka(one: torch.Tensor, other: torch.Tensor) -> float:
    """Linear CKA of what two layers say of the same videos: 1 alike but for rotation and scale, about 0 unrelated.

    With K and L the Gram matrices, their diagonals set to 0, and H the unbiased estimate of HSIC,

        CKA = H(K, L) / sqrt(H(K, K) H(L, L)),
        H(K, L) = (tr(K L) + sum(K) sum(L) / ((n - 1) (n - 2)) - 2 / (n - 2) * 1'K L1) / (n (n - 3))

    The plain estimate calls any two layers alike that have more channels than there are videos; this one may fall a
    little below 0 by chance.

    Source: Kornblith et al., arXiv 1905.00414; unbiased: Song et al., JMLR 13 (2012), Nguyen et al., arXiv 2010.15327.

    Args:
        one: [N, F], N at least 4.
        other: [N, G].

    Returns:
        CKA; nan where a layer says the same of all videos.
    """
    first, second = (_gram(features) for features in (one, other))
    scale = _hsic(first, first) * _hsic(second, second)
    return float(_hsic(first, second) / scale.sqrt()) if scale > 0 else float("nan")


def _gram(features: torch.Tensor) -> torch.Tensor:
    centred = features.double() - features.double().mean(0)  # changes nothing but the rounding
    return (centred @ centred.T).fill_diagonal_(0)


def _hsic(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    count = len(first)
    diagonal = (first * second).sum() + first.sum() * second.sum() / ((count - 1) * (count - 2))
    return (diagonal - 2 / (count - 2) * (first.sum(0) @ second.sum(0))) / (count * (count - 3))


@dataclass(frozen=True)
class Spectrum:
    """How the variance of features is spread over directions.

    Attributes:
        shares: of the variance, of each principal component, descending; they add up to 1. Empty without any variance.
        dimensions: length of a feature vector.
        cosine: mean over all pairs of two videos; 1: all point one way.
    """

    shares: torch.Tensor
    dimensions: int
    cosine: float

    @property
    def effective_rank(self) -> float:
        """Exp of the entropy of the shares: n components of equal variance give n; 0 without any variance.

        Source: Roy and Vetterli, "The effective rank", EUSIPCO 2007.
        """
        return torch.special.entr(self.shares).sum().exp().item() if len(self.shares) else 0.0

    def components_for(self, share: float) -> int:
        """How many components hold that share of the variance together."""
        return int((self.shares.cumsum(0) < share - 1e-12).sum()) + 1 if len(self.shares) else 0


def spectrum_of(features: torch.Tensor) -> Spectrum:
    """Principal components of features [N, F]: N videos tell N - 1 of them at most."""
    variances = torch.linalg.svdvals(_centred(features)).square()
    whole = variances.sum()
    found = (
        variances[: len(features) - 1] / whole if whole > 1e-12 * features.double().square().sum() else variances[:0]
    )
    count, towards = len(features), F.normalize(features.double(), dim=1).sum(0)
    cosine = (towards.square().sum() - count) / (count * (count - 1))
    return Spectrum(found.cpu(), features.shape[1], cosine.item())


@dataclass(frozen=True)
class Plane:
    """Features seen from where they spread widest.

    Attributes:
        points: [N, 2].
        shares: of the variance, along the two axes.
    """

    points: torch.Tensor
    shares: tuple[float, float]


def principal_plane(features: torch.Tensor) -> Plane:
    """The first two principal components of features [N, F], each turned so that its largest weight is positive."""
    centred = _centred(features)
    _, sizes, axes = torch.linalg.svd(centred, full_matrices=False)
    axes = axes[:2] * axes[:2].gather(1, axes[:2].abs().argmax(1, keepdim=True)).sign()
    shares = sizes.square() / sizes.square().sum().clamp(min=1e-30)
    points = F.pad(centred @ axes.T, (0, 2 - len(axes)))
    first, second = F.pad(shares[:2], (0, 2 - len(axes))).tolist()
    return Plane(points.cpu(), (first, second))


def _centred(features: torch.Tensor) -> torch.Tensor:
    return features.double() - features.double().mean(0)
