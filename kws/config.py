"""Frozen dataclasses filled from YAML: unknown keys are refused by dotted path, with the nearest legal key.

The dataclasses are the schema: field names are the keys, annotations the types, defaults the defaults.
Supported annotations: bool, int, float, str, tuple[T, ...], tuple[T, T], dict[str, T], Literal, other
dataclasses, and unions of these and None.
"""

import dataclasses
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from kws.errors import ConfigError

T = TypeVar("T")

_SCALARS: dict[Any, str] = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def load(path: Path, cls: type[T], changes: Iterable[str] = ()) -> T:
    """Read the YAML file `path` into the frozen dataclass `cls`; ConfigError names the file and the key.

    Args:
        path: The file.
        cls: The schema.
        changes: "dotted.key=value" (YAML) settings in place of the file's.
    """
    data = read_yaml(path)
    for change in changes:
        data = _changed(data, change)
    return parse(data, cls, where=str(path))


def read_yaml(path: Path) -> Any:
    """Parse one YAML file with the safe loader; ConfigError when it is missing or not YAML."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} is not valid YAML ({reason}); fix the file") from error


def parse(value: Any, cls: type[T], where: str = "configuration") -> T:
    """Turn plain YAML data into `cls`, checking every key and type; `where` starts each error message."""
    try:
        result: T = _convert(value, cls, "")
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    return result


def dump(value: Any) -> Any:
    """Turn a dataclass (nested) into plain data that `yaml.safe_dump` writes and `parse` reads back."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: dump(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: dump(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [dump(item) for item in value]
    return value


def _changed(data: Any, change: str) -> Any:
    dotted, equals, text = change.partition("=")
    if not (dotted and equals):
        raise ConfigError(f"{change!r} is no setting; write KEY=VALUE")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{dotted}: {text!r} is not valid YAML; quote it") from error
    for key in reversed(dotted.split(".")):
        value = {key: value}
    return _merged(data, value)


def _merged(old: Any, new: Any) -> Any:
    """`new` on top of `old`, mapping by mapping."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return new
    return old | {key: _merged(old.get(key), value) for key, value in new.items()}


def _convert(value: Any, kind: Any, path: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _convert_fields(value, kind, path)
    if origin in (Union, types.UnionType):
        return _convert_union(value, arguments, path)
    if origin is tuple:
        return _convert_tuple(value, arguments, path)
    if origin is dict:
        if not isinstance(value, dict):
            raise _wrong(path, "a mapping", value)
        return {str(k): _convert(v, arguments[1], f"{path}.{k}".lstrip(".")) for k, v in value.items()}
    if origin is Literal:
        if value not in arguments:
            raise _wrong(path, "one of " + ", ".join(map(str, arguments)), value)
        return value
    return _convert_scalar(value, kind, path)


def _convert_fields(value: Any, kind: Any, path: str) -> Any:
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise _wrong(path, "a mapping", value)
    hints = get_type_hints(kind)
    for key in value:
        if key not in hints:
            raise _unknown(f"{path}.{key}".lstrip("."), str(key), list(hints))
    converted = {k: _convert(v, hints[k], f"{path}.{k}".lstrip(".")) for k, v in value.items()}
    required = (
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    )
    for name in required:
        if name not in converted:
            raise ConfigError(f"{f'{path}.{name}'.lstrip('.')} is missing; add it")
    try:
        return kind(**converted)
    except ConfigError as error:  # a range check in __post_init__ names the field only
        raise ConfigError(f"{path}.{error}" if path else str(error)) from None


def _convert_union(value: Any, kinds: tuple[Any, ...], path: str) -> Any:
    """The first kind that has the value's shape (mapping, list or scalar) and takes it."""
    if value is None and type(None) in kinds:
        return None
    shaped = [kind for kind in kinds if _shape_of_kind(kind) is _shape(value)] or [
        kind for kind in kinds if kind is not type(None)
    ]
    for kind in shaped[:-1]:
        try:
            return _convert(value, kind, path)
        except ConfigError:
            continue
    if len(shaped) == 1:
        return _convert(value, shaped[0], path)
    try:
        return _convert(value, shaped[-1], path)
    except ConfigError:
        names = [_SCALARS.get(kind) or "one of " + ", ".join(map(str, get_args(kind))) for kind in shaped]
        raise _wrong(path, " or ".join(names), value) from None


def _shape(value: Any) -> type:
    return dict if isinstance(value, dict) else tuple if isinstance(value, (list, tuple)) else str


def _shape_of_kind(kind: Any) -> type | None:
    if dataclasses.is_dataclass(kind) or get_origin(kind) is dict:
        return dict
    if get_origin(kind) is tuple:
        return tuple
    return None if kind is type(None) else str


def _convert_tuple(value: Any, arguments: tuple[Any, ...], path: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise _wrong(path, "a list", value)
    if arguments[-1] is Ellipsis:
        return tuple(_convert(item, arguments[0], f"{path}[{i}]") for i, item in enumerate(value))
    if len(value) != len(arguments):
        raise _wrong(path, f"a list of {len(arguments)}", value)
    return tuple(
        _convert(v, a, f"{path}[{i}]") for i, (v, a) in enumerate(zip(value, arguments, strict=True))
    )


def _convert_scalar(value: Any, kind: Any, path: str) -> Any:
    if kind is Any:
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(value, str):  # YAML 1.1 reads 1e-3 as a string
        try:
            return float(value)
        except ValueError:
            raise _wrong(path, "a number", value) from None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _wrong(path, _SCALARS.get(kind, kind.__name__), value)
    return value


def _unknown(path: str, key: str, legal: list[str]) -> ConfigError:
    import difflib  # noqa: PLC0415 - a listener that starts well never needs it

    near = difflib.get_close_matches(key, legal, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else "legal keys: " + ", ".join(legal)
    return ConfigError(f"unknown key {path}; {hint}")


def _wrong(path: str, wanted: str, value: Any) -> ConfigError:
    return ConfigError(f"{path or 'the file'} must be {wanted}, not {value!r}")
