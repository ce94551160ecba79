"""The base of all settings: frozen, validated, documented field by field."""

from pydantic import BaseModel, ConfigDict

__all__ = ["Settings"]


class Settings(BaseModel):
    """Settings stand beside the class that owns them; the docstring under a field is its help text.

    Unknown fields are refused, values are validated, instances do not change.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)
