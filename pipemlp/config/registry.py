"""The names that a configuration may use for blocks, losses, metrics and sources, and their options.

Built-in choices are entered where their options are defined; a plug-in adds its own with the
`register_*` functions of the package, which end here. Only names and option models live here: how
a name becomes code is the business of `model`, `data` and `training`.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, SerializeAsAny, create_model
from pydantic_core import PydanticCustomError, core_schema

from pipemlp.config.section import Named

KINDS = ("block", "loss", "metric", "source", "optimizer", "lr_schedule", "update", "compression")
_options: dict[str, dict[str, type[Named]]] = {kind: {} for kind in KINDS}
_tasks: dict[str, str] = {}


def register_name(kind: str, name: str, options: type[Named] | None = None, task: str | None = None) -> None:
    """Allow `name` for `kind`; `options` is the model of its keys (none but `name` when left out).

    `task` says of a plug-in's loss what its target is: regression, classification or multilabel.

    Raises:
        ValueError: if the name is taken by something else.
    """
    known = _options[kind].get(name)
    if known is not None and known is not options:
        raise ValueError(f"the {kind} name {name!r} is already taken; choose another")
    if options is None:
        fields: dict[str, Any] = {"name": (Literal[name], name)}
        options = create_model(f"{name.title()}Options", __base__=Named, __doc__="Registered by a plug-in.", **fields)
    _options[kind][name] = options
    if task is not None:
        _tasks[name] = task


def names_of(kind: str) -> tuple[str, ...]:
    """All names that a configuration may use for `kind`, in order of registration."""
    return tuple(_options[kind])


def task_of_loss_name(name: str) -> str | None:
    """The task of a registered loss; None for a built-in one."""
    return _tasks.get(name)


def options_of(kind: str, name: str) -> type[Named]:
    """The options model of a registered name."""
    return _options[kind][name]


@dataclass(frozen=True)
class Choice:
    """Marks a field as a choice by name: `name`, or `{name: ..., option: ...}`, becomes the options model.

    `default` is the name meant by a mapping without one; `auto` says whether `auto` is allowed.
    """

    kind: str
    default: str | None = None
    auto: bool = False

    def names(self) -> tuple[str, ...]:
        """All names that may be written, `auto` included."""
        return (("auto",) if self.auto else ()) + names_of(self.kind)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(self._choose, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        models = [options_of(self.kind, name).__pydantic_core_schema__ for name in names_of(self.kind)]
        return {"anyOf": [{"enum": list(self.names())}, *(handler(model) for model in models)]}

    def _choose(self, value: Any) -> Any:
        if isinstance(value, Named) and _options[self.kind].get(value.name) is type(value):
            return value
        if self.auto and value == "auto":
            return value
        name = value if isinstance(value, str) else value.get("name", self.default) if isinstance(value, dict) else None
        if not isinstance(name, str):
            raise PydanticCustomError("choice_form", "give a name or {{name: ..., option: ...}}", {"kind": self.kind})
        model = _options[self.kind].get(name)
        if model is None:
            known = list(self.names())
            context = {"kind": self.kind, "name": name, "known": known}
            raise PydanticCustomError("unknown_name", "unknown {kind} {name}", context)
        return model.model_validate({"name": name, **value} if isinstance(value, dict) else name)


Block = Annotated[SerializeAsAny[Named], Choice("block", default="plain")]
Loss = Annotated[Literal["auto"] | SerializeAsAny[Named], Choice("loss", auto=True)]
Source = Annotated[Literal["auto"] | SerializeAsAny[Named], Choice("source", auto=True)]
