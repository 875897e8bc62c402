"""Frozen dataclasses from mappings (YAML, JSON), strictly, and mappings laid over each other.

An unknown, misspelled or ill-typed key is an error that names the key by its full path and, where one is near,
the key that was probably meant.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from wavecore.errors import SettingsError

T = TypeVar("T")


def need(ok: bool, text: str) -> None:
    """What a dataclass that `build` builds says of a value that cannot be: `text` names the key and what it must be."""
    if not ok:
        raise ValueError(text)


def build(cls: type[T], mapping: Any, where: str) -> T:
    """Build the frozen dataclass `cls` from `mapping`, strictly.

    Args:
        cls: a dataclass; nested dataclasses, `X | None`, `tuple[X, ...]`, `dict[str, X]` plain types are understood.
        mapping: what YAML gave.
        where: the name of the file and key path, for messages ("params.yaml: train").

    Raises:
        SettingsError: an unknown, missing or ill-typed key; the message names it.
    """
    if mapping is None:
        mapping = {}
    if not isinstance(mapping, Mapping):
        raise SettingsError(f"{where}: expected keys and values, found {mapping!r}", "indent the keys below it")
    hints = _hints(cls)  # type: ignore[arg-type]
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in mapping:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(fields))}"
            raise SettingsError(f"{where}: unknown key {key!r}", hint)
    values = {}
    for name, f in fields.items():
        if name in mapping:
            values[name] = _coerce(hints[name], mapping[name], f"{where}.{name}")
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise SettingsError(f"{where}: the key {name!r} is missing", f"add `{name}:`")
    try:
        return cls(**values)
    except ValueError as error:
        raise SettingsError(f"{where}: {error}", "change the value") from error


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    # Resolving them takes longer than all the rest, and params.yaml has some thousand nested mappings to check.
    return typing.get_type_hints(cls)


def _coerce(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        options = [o for o in typing.get_args(hint) if o is not type(None)]
        if value is None:
            if len(options) < len(typing.get_args(hint)):
                return None
            raise SettingsError(f"{where}: no value", "give one")
        first: SettingsError | None = None
        for option in options:
            try:
                return _coerce(option, value, where)
            except SettingsError as error:
                first = first or error
        assert first is not None
        raise first
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, where)
    if origin is typing.Literal:
        allowed = typing.get_args(hint)
        if value not in allowed:
            raise SettingsError(
                f"{where}: {value!r} is not one of {', '.join(map(str, allowed))}", "choose one of them"
            )
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise SettingsError(f"{where}: expected a list, found {value!r}", "write it as [a, b]")
        (item, *_) = typing.get_args(hint)
        return tuple(_coerce(item, v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin in (dict, Mapping) or hint is dict:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise SettingsError(f"{where}: expected keys and values, found {value!r}", "indent the keys below it")
        if hint is dict:
            return dict(value)
        _, item = typing.get_args(hint)
        return {str(k): _coerce(item, v, f"{where}.{k}") for k, v in value.items()}
    if hint is float:
        # YAML 1.1 reads "1e-3" as text; a number is plainly meant.
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                raise SettingsError(f"{where}: expected a number, found {value!r}", "write a number") from None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise SettingsError(f"{where}: expected a number, found {value!r}", "write a number")
        # An item of a list may be infinite (a sentinel); a setting may not.
        if math.isnan(value) or (math.isinf(value) and not where.endswith("]")):
            raise SettingsError(f"{where}: {value} is not a finite number", "write a number")
        return float(value)
    if hint is int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise SettingsError(f"{where}: expected a whole number, found {value!r}", "write a whole number")
        return value
    if hint is bool:
        if not isinstance(value, bool):
            raise SettingsError(f"{where}: expected true or false, found {value!r}", "write true or false")
        return value
    if hint is str:
        if not isinstance(value, str):
            raise SettingsError(f"{where}: expected text, found {value!r}", "put it in quotes")
        return value
    raise TypeError(f"{where}: no rule to read {hint!r}")


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`below` with what `above` sets otherwise, key by key into nested mappings."""
    found = dict(below)
    for key, value in above.items():
        old = found.get(key)
        found[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return found
