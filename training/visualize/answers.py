"""What the network answers, where it errs, and where in space and time its answers come from."""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pclkd.pipeline.batch import ClipBatch
from pclkd.pipeline.clips.covering import UniformRecipe
from pclkd.pipeline.opening import clip_loader
from pclkd.pipeline.pretext.base import Pretext
from pclkd.pipeline.world import World
from pclkd.sharding.common.pictures import Frame, contact_sheet
from pclkd.training.evaluation.accuracy import accuracy
from pclkd.training.evaluation.evaluator import PRETEXT_SEED
from pclkd.training.findings.page import grid, table_block
from pclkd.training.models.memory_layout import arranged
from pclkd.training.preview.loaded import load_clips, rgb_levels
from pclkd.training.report.page import Table
from pclkd.training.runs.run_folder import Measured
from pclkd.training.visualize.drawing import Matrix
from pclkd.training.visualize.layers import grad_cam, located, recorded
from pclkd.training.visualize.material import Material
from pclkd.training.visualize.neighbours import evenly
from pclkd.training.visualize.part import Part
from pclkd.training.visualize.strips import attended, film_strip, picture

__all__ = ["attention", "confusion", "count_answers"]

_WORST = 10
_LONG = 12  # classes, from which on the worst confusions are listed as well
_VIDEOS = 6
_FRAMES, _SIDE = 8, 64
_NO_TASK = "The run has no pretext task: nothing was asked about its clips."


def count_answers(right: torch.Tensor, given: torch.Tensor, classes: int) -> torch.Tensor:
    """[classes, classes] how often each class (row) got each answer (column), of N answers [N] int64."""
    return torch.bincount(right * classes + given, minlength=classes * classes).reshape(classes, classes)


def confusion(of: Material) -> Part:
    """Right classes against answers: of the pretext task, and of the linear probe."""
    given, right = of.probe.logits(of.test.features).argmax(1).cpu(), of.test.labels.cpu()
    asked: list[tuple[str, Sequence[str], torch.Tensor, torch.Tensor, torch.Tensor | None]]
    asked = [("Linear probe", of.classes, given, right, None)]
    task, note = of.settings.pretext.build(), ""
    if task is None:
        note = f'<p class="note">{_NO_TASK}</p>'
    else:
        answers, labels, videos = of.evaluator.pretext_answers(of.model)
        asked.insert(0, ("Pretext task", task.classes, answers, labels, videos))
    matrices, blocks, numbers = [], [], {}
    for name, classes, said, label, video in asked:
        counts = count_answers(label, said, len(classes)).double().numpy()
        score = Measured.of(accuracy("top1", said == label, video), "top1_pct")
        with np.errstate(invalid="ignore"):
            shares = 100 * counts / counts.sum(1, keepdims=True)
        heading = f"{name}: {score} % of {len(label)} answers are right"
        matrix = Matrix(heading, "is", "answered, % of a row", classes, classes, shares, full=100, decimals=0)
        matrices.append(matrix)
        worst = _worst(classes, counts, shares) if len(classes) > _LONG else ""
        blocks.append(f"<figure><h3>{html.escape(heading)}</h3>{matrix.svg()}{worst}</figure>")
        numbers[_key(name)] = {"classes": list(classes), "counts": counts.astype(int).tolist()}
    told = (
        "Rows are what is asked, columns what was answered; a good network has its colour on the diagonal. The linear "
        f"probe sees features of {of.clips} clips a video, averaged; the pretext task is asked "
        f"{of.settings.evaluation.pretext_passes} time(s) a video. Test videos, with their standard error."
    )
    return Part("Confusion", f'{grid(blocks)}\n{note}<p class="note">{told}</p>', numbers, drawings=tuple(matrices))


def _key(name: str) -> str:
    return name.lower().replace(" ", "_")


def _worst(classes: Sequence[str], counts: np.ndarray, shares: np.ndarray) -> str:
    wrong = counts - np.diag(np.diag(counts))
    ranked = [divmod(int(place), len(classes)) for place in wrong.ravel().argsort(kind="stable")[::-1][:_WORST]]
    rows = [["is", "answered", "answers", "% of the row"]]
    rows += [
        [classes[a], classes[b], f"{wrong[a, b]:.0f}", f"{shares[a, b]:.0f}"] for a, b in ranked if wrong[a, b] > 0
    ]
    return table_block(Table("", "", rows), "Most often confused") if len(rows) > 1 else ""


def attention(of: Material) -> Part:
    """Grad-CAM of the pretext answer over three clips, and of the linear probe's answer over one."""
    samples = of.samples[evenly(range(len(of.samples)), _VIDEOS)]
    task, blocks, rows, captions, numbers = of.settings.pretext.build(), [], [], [], {}
    asked = [] if task is None else [_pretext(of, samples, task)]
    asked.append(_action(of, samples))
    for name, _, found in asked:
        figures = []
        for seen in found:
            image = picture(np.concatenate([_joined(seen.plain), _joined(seen.laid)]))
            alt = html.escape(f"{seen.text}: frames, and below them what speaks for the answer")
            caption = f"<figcaption>{html.escape(seen.text)}</figcaption>"
            figures.append(f'<figure class="seen"><img alt="{alt}" src="{image}">{caption}</figure>')
            rows += [seen.plain, seen.laid]
            captions += [f"{name}: {seen.text}", ""]
        blocks.append(f"<h3>{name}</h3>\n{grid(figures)}")
        numbers[_key(name)] = [{"video": seen.text, "by_clip_and_time": seen.weights} for seen in found]
    if not (layer := asked[-1][1]):
        line = "No layer of this network has maps over time and space: there is nothing to lay over its clips."
        return Part("Attention", f'<p class="note">{line}</p>', {"layer": None})
    told = (
        f"Grad-CAM at {layer}: the places and times that speak for the answer that was given, right or wrong. {layer} "
        "is the deepest layer that still tells 4 times and 4 x 4 places apart (else the finest); what is laid over the "
        "frames is as coarse as its maps. All clips of a video share a scale, from its strongest place. The bar below "
        "a frame is its time's part, of the strongest time. It shows what an answer uses, not why."
    )
    note = f'<p class="note">{_NO_TASK}</p>' if task is None else ""
    body = f'<p class="note">{html.escape(told)}</p>\n{note}' + "\n".join(blocks)
    sheet = contact_sheet(rows, captions, title="Attention", subtitle=told)
    return Part("Attention", body, {"layer": layer, **numbers}, sheet=sheet)


@dataclass(frozen=True)
class _Seen:
    """A video with what speaks for an answer about it.

    Attributes:
        text: the video, what it is, what was answered.
        plain: strips of four frames.
        laid: the same with attention over them.
        weights: [V, t] mean attention of each clip and time of the maps.
    """

    text: str
    plain: list[Frame]
    laid: list[Frame]
    weights: list[list[float]]


_Looked = tuple[str, str, list[_Seen]]
"""What was asked, the layer ("" without any), and the videos."""


def _pretext(of: Material, samples: NDArray[np.int64], task: Pretext) -> _Looked:
    how = {"seed": PRETEXT_SEED, "augment": None}
    layer, seen = _look(
        of, samples, how, task.classes, lambda batch: (of.model(batch.clips).pretext_logits, batch.pretext_label)
    )
    return "Pretext task", layer, seen


def _action(of: Material, samples: NDArray[np.int64]) -> _Looked:
    network = of.model.base_network

    def ask(batch: ClipBatch) -> tuple[torch.Tensor, torch.Tensor]:
        return of.probe.logits(network(arranged(batch.clips, network).flatten(0, 1))), batch.label

    recipe = UniformRecipe(views=1, clip_frames=of.settings.tuples.clip_frames)
    return "Linear probe", *_look(of, samples, {"recipe": recipe}, of.classes, ask)


def _look(
    of: Material,
    samples: NDArray[np.int64],
    how: dict[str, Any],
    classes: Sequence[str],
    ask: Callable[[ClipBatch], tuple[torch.Tensor, torch.Tensor]],
) -> tuple[str, list[_Seen]]:
    """Ask the network about a batch of these samples, by a function that gives logits and right answers."""
    frames = {row: rgb_levels(clips) for row, clips in load_clips(of.index, samples, of.settings, "rgb", **how)}
    how |= {"shuffle": False, "batch_size": len(samples), "quarantine_limit_pct": 100.0}
    with clip_loader(of.index, of.settings, World(), samples=samples, device=of.device, **how) as loader:
        for batch in loader.epoch(0):
            with recorded(of.model.base_network) as maps, torch.enable_grad():
                logits, right = ask(batch)
            if not maps:
                return "", []
            layer = located(maps)
            given = logits.argmax(1)
            where = grad_cam(maps[layer], logits.gather(1, given[:, None])[:, 0]).cpu()
            where = where.reshape(len(batch.clips), -1, *where.shape[1:])  # [B, V, t, h, w]
            where = where / where.flatten(1).amax(1).clamp(min=1e-12)[:, None, None, None, None]
            names = [[classes[label] for label in labels.tolist()] for labels in (right, given)]
            return layer, [
                _seen(of, int(samples[row]), names[0][b], names[1][b], frames[row], where[b])
                for b, row in enumerate(batch.sample_index[: batch.valid].tolist())
            ]
    return "", []


def _seen(of: Material, sample: int, right: str, given: str, frames: Frame, where: torch.Tensor) -> _Seen:
    """`frames`: [V, T, H, W, 3]; `where`: [V, t, h, w] in [0, 1]."""
    count = _FRAMES if len(frames) == 1 else _FRAMES // 2
    pieces = count // 4
    most = where.mean(dim=(2, 3)).amax().item()
    return _Seen(
        f"{of.index.key(sample)}: is {right}, answered {given}",
        [piece for clip in frames for piece in np.split(film_strip(clip, count, _SIDE), pieces, axis=1)],
        [
            piece
            for clip, part in zip(frames, where, strict=True)
            for piece in np.split(attended(clip, part, count, _SIDE, most), pieces, axis=1)
        ],
        where.mean(dim=(2, 3)).numpy().round(4).tolist(),
    )


def _joined(pieces: Sequence[Frame]) -> Frame:
    gap = np.full((len(pieces[0]), 4, 3), 255, np.uint8)
    return np.concatenate([part for piece in pieces for part in (piece, gap)][:-1], axis=1)
