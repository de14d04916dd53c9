"""A pydantic model as an application's options: its fields, its making, its errors in Plait's form.

This is the only module that imports pydantic, and it is imported only for a class that is a pydantic model.
pydantic converts and checks the values itself, by its own rules; where they come from is Plait's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pydantic

from plait.options.meta import Meta

_LIMITS = ("ge", "gt", "le", "lt", "multiple_of", "pattern", "min_length", "max_length")


def model_parts(cls: type[pydantic.BaseModel]) -> Iterator[tuple[str, Any, Callable[[], object] | None]]:
    """Name, annotation and default of each field; what pydantic knows of it said as our `Meta`."""
    for name, info in cls.model_fields.items():
        limits = {
            limit: value
            for note in info.metadata
            for limit in _LIMITS
            if (value := getattr(note, limit, None)) is not None
        }
        meta = Meta(description=info.description or "", examples=tuple(info.examples or ()), **limits)
        annotation: Any = Annotated[info.annotation, *info.metadata, meta]
        yield name, annotation, None if info.is_required() else _default(info)


def _default(info: Any) -> Callable[[], object]:
    if info.default_factory is not None and getattr(info, "default_factory_takes_validated_data", False):
        return lambda: None
    return lambda: info.get_default(call_default_factory=True)


def alias_of(cls: type[pydantic.BaseModel], name: str) -> str:
    """The key under which the model's constructor wants this field."""
    alias = cls.model_fields[name].validation_alias
    if isinstance(alias, pydantic.AliasChoices):
        alias = next((choice for choice in alias.choices if isinstance(choice, str)), None)
    return alias if isinstance(alias, str) else name


def name_of(cls: type[pydantic.BaseModel], alias: str) -> str:
    """The field that the constructor's key stands for."""
    return next((name for name in cls.model_fields if alias_of(cls, name) == alias), alias)


def errors_of(error: pydantic.ValidationError) -> Iterator[tuple[tuple[str | int, ...], object, str]]:
    """Place, value and message of each error; the value is None for one that is missing."""
    for one in error.errors(include_url=False, include_context=False):
        missing = one["type"] == "missing"
        yield one["loc"], None if missing else one["input"], one["msg"]
