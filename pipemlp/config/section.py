"""What every configuration section shares: frozen, strict, closed, documented where it is defined."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, Strict, model_validator


class Section(BaseModel):
    """A part of the configuration. Unknown keys, coercions, NaN and infinities are errors."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
    )


class Named(Section):
    """A choice with options: `{name: adamw, lr: 1e-3}`, or just the name."""

    name: str

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Names = Annotated[tuple[str, ...], Strict(False)]
"""A list of names; a YAML list arrives as a Python list, hence the one relaxed type."""
