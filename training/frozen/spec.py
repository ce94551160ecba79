"""What has to be known of a frozen network to learn from it: what it is shown, and what its answer means."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationError

from pclkd.pipeline.clips.moments import MomentView
from pclkd.sharding.common.errors import InputError
from pclkd.sharding.common.settings import first_fault, nearest

__all__ = ["TeacherSpec", "overridden"]


class TeacherSpec(MomentView):
    """How a network sees a clip, and how its answer is read.

    [N, L, C] tokens      prefix tokens first, then the cells of the grid, frame by frame, row by row
    [N, C, h, w] maps     of a picture
    [N, C, t, h, w] maps  of a clip
    [N, F]                features alone: no grid
    """

    images: bool = False
    """Whether it takes pictures: it is then shown each frame by itself, its features are their mean over the frames,
    and its grid has a cell in time for each."""
    feature: Literal["given", "first", "mean"] = "given"
    """A clip's features: what the network itself gives as such, its first token, or the mean over its grid."""
    prefix: int = 0
    """Tokens in front of those of the grid: class, registers, distillation."""
    grid: tuple[int, int, int] | None = None
    """Cells of the tokens in time, in rows and in columns (of one picture: time 1); maps tell theirs themselves."""

    @property
    def view(self) -> MomentView:
        """What the loader has to know of it."""
        return MomentView(**{name: getattr(self, name) for name in MomentView.model_fields})


def overridden(spec: TeacherSpec, changes: Mapping[str, Any], name: str) -> TeacherSpec:
    """The spec with what the settings say otherwise.

    Args:
        spec: as it was found by family.
        changes: fields of it.
        name: of the teacher, for messages.

    Raises:
        InputError: an unknown field, the nearest one is told, or a value that is not allowed.
    """
    for field in changes:
        if field not in TeacherSpec.model_fields:
            raise InputError(
                f"the teacher {name}: kd.teacher_specs has {field!r}, which no TeacherSpec has",
                remedy=f"did you mean {nearest(field, TeacherSpec.model_fields)!r}?",
            )
    try:
        return TeacherSpec.model_validate({**spec.model_dump(), **changes})
    except ValidationError as error:
        field, value, fault = first_fault(error)
        meaning = " ".join((TeacherSpec.model_fields[field.split(".")[0]].description or field).split())
        raise InputError(
            f"the teacher {name}: kd.teacher_specs {field}={value!r}: {fault}", remedy=f"it means: {meaning}"
        ) from None
