"""A part of a visualisation, as each of them is told."""

from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from pclkd.training.visualize.drawing import Drawing

__all__ = ["Part"]


@dataclass(frozen=True)
class Part:
    """What one part found.

    Attributes:
        heading: its heading.
        body: HTML of the page.
        drawings: figures, for its PNG; the page has them in `body`.
        sheet: pictures, for its PNG, where it has no figures.
        numbers: for its JSON.
        data: for the script of the page, by name.
        style: rules for the page.
    """

    heading: str
    body: str
    numbers: dict[str, Any]
    drawings: tuple[Drawing, ...] = ()
    sheet: Image.Image | None = None
    data: dict[str, Any] = field(default_factory=dict)
    style: str = ""
