"""The page of one run: what its network has learned, in one file that needs nothing beside it."""

import json
from collections.abc import Sequence
from pathlib import Path

from pclkd.sharding.common.errors import visible
from pclkd.training.findings.page import html_document
from pclkd.training.visualize.material import Material
from pclkd.training.visualize.part import Part

__all__ = ["STYLE", "render_learned"]

STYLE, _SCRIPT = (Path(__file__).with_name(name).read_text() for name in ("page.css", "page.js"))
"""Of film strips and the other parts, beside a study's."""


def render_learned(of: Material, parts: Sequence[Part]) -> str:
    """The page of some parts."""
    settings = of.settings
    lead = (
        f"{settings.backbone.name} x{settings.backbone.width:g} after {of.checkpoint.epoch} epochs"
        f"{'' if of.run.is_dir() else f' ({visible(of.run.name)})'} · "
        f"{len(of.samples)} test videos of split {settings.split}, {len(of.classes)} classes · "
        f"{settings.loader.modality} clips of {settings.tuples.clip_frames} x {settings.loader.crop} x "
        f"{settings.loader.crop}"
    )
    data = json.dumps({name: value for part in parts for name, value in part.data.items()}).replace("<", "\\u003c")
    return html_document(
        f"What {of.folder.absolute().name} has learned",
        lead,
        [(part.heading, part.body) for part in parts],
        style=STYLE + "".join(part.style for part in parts),
        scripts=f'<script type="application/json" id="sizes">{data}</script>\n<script>\n{_SCRIPT}</script>',
    )
