"""What a network has become: how like its teacher, by layer and epoch, and in how many directions it sees."""

import html

import numpy as np
import torch

from pclkd.training.findings.page import grid, table_block
from pclkd.training.report.page import Table
from pclkd.training.visualize.arithmetic import Spectrum, linear_cka, spectrum_of
from pclkd.training.visualize.drawing import Curves, Matrix
from pclkd.training.visualize.layers import EMBEDDING, FEATURES
from pclkd.training.visualize.material import Layers, Material
from pclkd.training.visualize.part import Part

__all__ = ["collapse", "similarity"]

_FEWEST = 8  # components that are drawn
_MOST = 0.9  # of the variance


def similarity(of: Material) -> Part:
    """Linear CKA of each layer of each teacher with each layer of the student; and as the student learned."""
    lines = [
        f"The teacher {path} is not there any more, or no network of train-kd: give one with --teacher PATH."
        for path in of.missing
    ]
    if not of.taught_by and not lines:
        lines = ["The run had no teacher: there is no other network to compare with, unless --teacher PATH names one."]
    notes = "".join(f'<p class="note">{html.escape(line)}</p>' for line in lines)
    if not of.taught_by:
        return Part("Like its teacher", notes, {"note": " ".join(lines)})
    epochs = {number: _backbone(layers) for number, layers in of.epochs()}
    drawings: list[Matrix | Curves] = []
    numbers = {}
    for name, teacher in of.taught_by.items():
        values = _alike(teacher, _backbone(of.layers))
        matrix = Matrix(
            f"Layers of {name} and of the run", "teacher", "the run", list(teacher), list(_backbone(of.layers)),
            values, full=1.0, decimals=2,
        )  # fmt: skip
        drawings.append(matrix)
        over = {number: _alike({FEATURES: teacher[FEATURES]}, layers)[0] for number, layers in epochs.items()}
        lines_of = {
            layer: (list(over), [100 * max(0.0, row[column]) for row in over.values()])
            for column, layer in enumerate(matrix.columns)
        }
        drawings.append(Curves(f"The run's layers and the features of {name}: 100 x CKA", "epoch", lines_of))
        numbers[name] = {
            "teacher_layers": list(teacher),
            "layers": list(matrix.columns),
            "cka": values.tolist(),
            "cka_with_features_by_epoch": {str(number): row.tolist() for number, row in over.items()},
        }
    kept = (
        "" if len(epochs) > 2 else " (the run kept no checkpoints between: --set checkpoint.keep=N keeps the latest N)"
    )
    told = (
        f"Linear CKA over {len(of.test.labels)} test videos: 1, the two layers see the videos alike but for a rotation "
        "and a scale; 0, unrelated. Each layer by the mean of its maps over time and space; the unbiased estimate, "
        "since the plain one calls all layers with more channels than videos alike. Epoch 0 is the network of the "
        "run's seed before it learned: what it shares with the teacher comes from videos and architecture "
        f"alone{kept}."
    )
    blocks = [f"<figure><h3>{html.escape(drawing.title)}</h3>{drawing.svg()}</figure>" for drawing in drawings]
    body = f'{notes}{grid(blocks)}\n<p class="note">{told}</p>'
    return Part("Like its teacher", body, numbers, drawings=tuple(drawings))


def collapse(of: Material) -> Part:
    """Spectra of embeddings and features, beside those of the network before it learned and of its teachers."""
    own = of.layers
    spectra = {
        "embeddings": spectrum_of(own[EMBEDDING]),
        "features": spectrum_of(own[FEATURES]),
        "embeddings, before": spectrum_of(of.untrained[EMBEDDING]),
        "features, before": spectrum_of(of.untrained[FEATURES]),
        **{f"features of {name}": spectrum_of(layers[FEATURES]) for name, layers in of.taught_by.items()},
    }
    most = max(_FEWEST, *(found.components_for(_MOST) for found in spectra.values()))
    lines = {name: _cumulated(found, most) for name, found in spectra.items() if len(found.shares)}
    curves = Curves("Percent of the variance in so many components", "principal components", lines)
    rows = [["", "dimensions", "effective rank", f"components for {_MOST:.0%}", "mean cosine of two videos"]]
    for name, found in spectra.items():
        some = str(found.components_for(_MOST)) if len(found.shares) else "all videos alike"
        cells = [str(found.dimensions), f"{found.effective_rank:.1f}", some, f"{found.cosine:.2f}".replace("-", "−")]
        rows.append([name, *cells])
    count = len(of.test.labels)
    note = (
        f"Principal components of {count} test videos, {of.clips} clips each, averaged; {count} videos tell "
        f"{count - 1} at most. A curve that jumps to 100 percent, an effective rank near 1 or a cosine near 1 is a "
        "collapse: all videos look alike. Effective rank: exp of the entropy of the shares of the variance. Before: "
        "the network of the run's seed, untrained."
    )
    drawings = (curves,) if lines else ()
    figure = f"<figure><h3>{curves.title}</h3>{curves.svg()}</figure>" if lines else ""
    missing = "" if of.taught_by else '<p class="note">No teacher to set beside it.</p>'
    body = f"{grid([figure, table_block(Table('', note, rows), 'In numbers')])}{missing}"
    numbers = {
        name: {
            "dimensions": found.dimensions,
            "effective_rank": found.effective_rank,
            "components_for_90_pct": found.components_for(_MOST),
            "mean_cosine": found.cosine,
            "variance_shares": found.shares.tolist(),
        }
        for name, found in spectra.items()
    }
    return Part("Collapse", body, numbers, drawings=drawings)


def _backbone(layers: Layers) -> Layers:
    return {name: said for name, said in layers.items() if name != EMBEDDING}


def _alike(teacher: Layers, student: Layers) -> np.ndarray:
    return np.array([[linear_cka(theirs, own) for own in student.values()] for theirs in teacher.values()])


def _cumulated(found: Spectrum, most: int) -> tuple[list[float], list[float]]:
    drawn = torch.cat([torch.zeros(1), 100 * found.shares.cumsum(0)])[: most + 1].tolist()
    return [float(number) for number in range(len(drawn))], drawn
