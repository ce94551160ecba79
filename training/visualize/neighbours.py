"""Which videos lie next to each other: the nearest ones of some queries, and all of them in a plane."""

import html
from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F

from pclkd.sharding.common.pictures import Frame, contact_sheet
from pclkd.training.evaluation.accuracy import accuracy
from pclkd.training.evaluation.probes import most_similar
from pclkd.training.runs.run_folder import Measured
from pclkd.training.visualize.arithmetic import principal_plane
from pclkd.training.visualize.drawing import Points, class_colour
from pclkd.training.visualize.material import Material
from pclkd.training.visualize.part import Part
from pclkd.training.visualize.strips import middle_strips, picture, strip_figure

__all__ = ["embedding", "evenly", "retrieval"]

_OF_EACH, _NEIGHBOURS = 4, 3  # queries that are right and wrong; videos beside each
_FRAMES, _SIDE = 4, 64
_POINTS = 400  # that a page has clips for
_SMALL = 40  # pixels, a side of their frames


def retrieval(of: Material) -> Part:
    """Queries, and the training videos that are most like them."""
    train, test = of.train, of.test
    likeness, nearest = (found.cpu() for found in most_similar(train.features, test.features, _NEIGHBOURS))
    theirs, own = train.labels.cpu(), test.labels.cpu()
    right = theirs[nearest[:, 0]] == own
    shown = [*evenly(right.nonzero()[:, 0].tolist(), _OF_EACH), *evenly((~right).nonzero()[:, 0].tolist(), _OF_EACH)]
    queries = of.samples[test.rows.cpu().numpy()]
    found = of.train_samples[train.rows.cpu().numpy()[nearest.numpy()]]
    ids = np.unique(np.concatenate([queries[shown], found[shown].ravel()]))
    by_row = middle_strips(of.index, ids, of.settings, count=_FRAMES, side=_SIDE)
    strips = {int(ids[row]): strip for row, strip in by_row.items()}
    blank = np.full((_SIDE, _FRAMES * _SIDE, 3), 128, np.uint8)

    def strip(sample: int) -> Frame:
        return strips.get(sample, blank)

    blocks, rows, captions = [], [], []
    for number in shown:
        name = of.classes[int(own[number])]
        cells = [strip_figure(strip(int(queries[number])), "asked", name, of.index.key(int(queries[number])))]
        texts = [f"query: {name}"]
        for place, sample in enumerate(found[number].tolist()):
            label = int(theirs[nearest[number, place]])
            mark = "✓" if label == int(own[number]) else "✗"
            said = f"{mark} {of.classes[label]}"
            cosine = f"cosine {likeness[number, place]:.2f}"
            kind = "held" if mark == "✓" else "fell"
            cells.append(strip_figure(strip(sample), kind, said, f"{cosine}, {of.index.key(sample)}"))
            texts.append(f"{said}, {cosine}")
        blocks.append(f'<div class="query">{"".join(cells)}</div>')
        rows.append([strip(int(queries[number])), *(strip(sample) for sample in found[number].tolist())])
        captions.append(texts)
    score = accuracy("r1", right)
    told = (
        f"R@1 {Measured.of(score, 'r1_pct')} %: so many of the {len(right)} test videos have a training video of their "
        f"class nearest, by the cosine of features ({of.clips} clips a video, averaged). Shown are "
        f"{min(_OF_EACH, int(right.sum()))} that are right and {min(_OF_EACH, int((~right).sum()))} that are wrong, "
        "evenly spaced in the order of the videos: first the query, then what is nearest to it; of each video its "
        "middle clip, as the network's crop shows it."
    )
    numbers = {
        **score,
        "queries": [
            {
                "key": of.index.key(int(sample)),
                "class": of.classes[int(own[number])],
                "nearest": [
                    {
                        "key": of.index.key(int(near)),
                        "class": of.classes[int(theirs[nearest[number, place]])],
                        "cosine": round(likeness[number, place].item(), 4),
                    }
                    for place, near in enumerate(found[number].tolist())
                ],
            }
            for number, sample in enumerate(queries)
        ],
    }
    sheet = contact_sheet(rows, [""] * len(rows), frame_captions=captions, title="Nearest videos", subtitle=told)
    return Part("Nearest videos", f'<p class="note">{told}</p>\n{"".join(blocks)}', numbers, sheet=sheet)


def embedding(of: Material) -> Part:
    """The test videos in the plane in which they spread widest."""
    test = of.test
    plane = principal_plane(F.normalize(test.features, dim=1))
    chosen = evenly(range(len(test.labels)), _POINTS)
    rows, labels = test.rows.cpu().numpy()[chosen], test.labels.cpu().numpy()[chosen]
    keys, names = [of.key(row) for row in rows.tolist()], [of.classes[label] for label in labels.tolist()]
    axes = [f"component {number}, {100 * share:.0f} % of the variance" for number, share in enumerate(plane.shares, 1)]
    points = Points(
        "Test videos by their features",
        axes[0],
        axes[1],
        places=plane.points.numpy()[chosen],
        labels=labels,
        classes=of.classes,
        texts=[f"{name}: {key}" for name, key in zip(names, keys, strict=True)],
    )
    strips = middle_strips(of.index, of.samples[rows], of.settings, count=_FRAMES, side=_SMALL)
    wide = _SMALL * _FRAMES
    blank = np.full((_SMALL, wide, 3), 128, np.uint8)
    film = np.concatenate([strips.get(number, blank) for number in range(len(chosen))])
    present = sorted(set(labels.tolist()))
    keys_below = "".join(
        f'<button type="button" disabled aria-pressed="true" data-label="{label}">'
        f'<i class="dot" data-label="{label}"></i>{html.escape(of.classes[label])}</button>'
        for label in present
    )
    colours = "".join(
        f'[data-label="{label}"] {{ --colour: light-dark({", ".join(class_colour(label, len(of.classes)))}); }}\n'
        for label in present
    )
    clip = f'.film {{ width: {wide}px; height: {_SMALL}px; background: url("{picture(film)}"); }}\n'
    less = f", {len(chosen)} of {len(test.labels)} evenly taken" if len(chosen) < len(test.labels) else ""
    told = (
        "Features of length 1, as retrieval compares them, in the plane of their first two principal components (PCA "
        f"by SVD: the widest view, in which nothing is bent or pulled apart){less}. Point at a video to see it, or use "
        "the arrow keys; a class below shows itself alone."
    )
    body = (
        f'<p class="note">{told}</p>\n<figure class="cloud">\n{points.svg()}\n<div class="tip" role="status" hidden>'
        f'<div class="film"></div><span></span></div>\n<figcaption>{keys_below}</figcaption>\n</figure>'
    )
    numbers = {
        "variance_shares": plane.shares,
        "videos": [
            {"key": key, "class": name, "place": place}
            for key, name, place in zip(keys, names, points.places.round(5).tolist(), strict=True)
        ],
    }
    return Part("Videos in a plane", body, numbers, drawings=(points,), data={"film": _SMALL}, style=colours + clip)


def evenly(found: Sequence[int], most: int) -> list[int]:
    """At most so many of them, evenly spaced, the first and the last included."""
    if not found:
        return []
    places = np.unique(np.linspace(0, len(found) - 1, min(most, len(found))).round().astype(int))
    return [found[place] for place in places.tolist()]
