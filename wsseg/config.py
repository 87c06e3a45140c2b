"""Values: TOML files and ``--set`` overrides become frozen dataclasses, strictly.

A field is declared with `setting`, which carries its range and says whether it belongs to the identity of a result.
Nothing here knows a stage: the tables a config may hold are handed in.
"""

import dataclasses
import hashlib
import json
import os
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import tomli_w

from wsseg.errors import ConfigError, nearest

_LONGEST_TOML = 1_000_000  # characters
_DEEP_KEY = re.compile(r"(?:[\w'\"-]+\s*\.\s*){20}")  # each part of a key costs the parser the time of all before it
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}|\$(\w+)")


def setting(
    default: Any = dataclasses.MISSING,
    *,
    low: float | None = None,
    high: float | None = None,
    execution: bool = False,
) -> Any:
    """Declare a field of a config dataclass.

    Args:
        default: its value where the config is silent; without one the key is required.
        low: smallest legal number (of each element, for a list).
        high: largest legal number.
        execution: True for how, not what, is computed (workers, device): never part of an artifact's key.
    """
    metadata = {"low": low, "high": high, "execution": execution}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Config:
    """One checked config file.

    Args:
        name: file name without suffix.
        path: the file.
        rng_seed: the source of all randomness.
        data: an instance of one of the data dataclasses.
        tables: the stages' dataclass instances by table name.
        stated: dotted keys that the file or an override states (the rest are defaults).
    """

    name: str
    path: Path
    rng_seed: int
    data: Any
    tables: Mapping[str, Any]
    stated: frozenset[str] = frozenset()

    def as_dict(self) -> dict[str, Any]:
        """Return all resolved values as plain TOML / JSON values."""
        tables = {name: plain(table) for name, table in self.tables.items()}
        return {"rng_seed": self.rng_seed, "data": plain(self.data), **tables}


# --- shipped files -----------------------------------------------------------------------------------------------


def shipped_folder(name: str) -> Path:
    """Return the folder of shipped files: ``wsseg/<name>`` in an installed wheel, ``<name>`` beside it in a checkout."""
    package = Path(str(resources.files("wsseg")))
    return package / name if (package / name).is_dir() else package.parent / name


def find_file(name: str, folder: str) -> Path:
    """Return the TOML file that `name` means: a path, or the name of a shipped file of `folder`.

    Raises:
        ConfigError: neither exists; the shipped names are listed.
    """
    if (path := Path(name).expanduser()).suffix == ".toml" and path.is_file():
        return path.resolve()
    shipped = {p.stem: p for p in sorted(shipped_folder(folder).glob("*.toml"))}
    if name in shipped:
        return shipped[name]
    beside = [str(path.with_name(p.name)) for p in path.parent.glob("*.toml")] if path.parent.is_dir() else []
    raise ConfigError(
        f"{name}: no such file, and no name of a shipped one in {folder}; "
        f"legal: a path ending in .toml, or {', '.join(shipped)}{nearest(name, [*shipped, *beside])}"
    )


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; ConfigError with file, line and reason where it is not TOML, or made to keep us busy."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if len(text) > _LONGEST_TOML or _DEEP_KEY.search(text):
        raise ConfigError(f"{path}: legal: at most {_LONGEST_TOML // 1000} kB, and at most 20 parts in a key")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits are no TOMLDecodeError
        raise ConfigError(f"{path}: not valid TOML: {error}") from error


# --- loading -----------------------------------------------------------------------------------------------------


def load_config(
    path: Path,
    tables: Mapping[str, type],
    data_kinds: Mapping[str, type],
    overrides: tuple[str, ...] = (),
) -> Config:
    """Read and check a config file.

    Args:
        path: the TOML file.
        tables: dataclass of each table a config may hold, by name.
        data_kinds: dataclass of the table ``[data]`` by its key ``kind``.
        overrides: ``KEY=VALUE`` strings; VALUE is read as TOML, or taken as text where it is not.

    Raises:
        ConfigError: with file, key, what was found and what is legal.
    """
    raw = read_toml(path)
    for override in overrides:
        apply_override(raw, override)
    known = ("rng_seed", "data", *tables)
    for key in raw:
        if key not in known:
            raise ConfigError(f"{path}: unknown key {key!r}; legal: {', '.join(known)}{nearest(key, known)}")
    seed = _convert(int, raw.get("rng_seed", 0), {"low": 0, "high": 2**32 - 1}, "rng_seed", path)
    data_raw = raw.get("data")
    if not isinstance(data_raw, dict):
        raise ConfigError(f"{path}: the table [data] is missing; it names the images and labels")
    kind = data_raw.get("kind")
    if not isinstance(kind, str) or kind not in data_kinds:
        legal = ", ".join(repr(k) for k in data_kinds)
        raise ConfigError(f"{path}: data.kind: found {kind!r}; legal: {legal}{nearest(str(kind), data_kinds)}")
    values = {}
    for name, cls in tables.items():
        table = dict(raw.get(name, {})) if isinstance(raw.get(name, {}), dict) else raw[name]
        if isinstance(table, dict) and any(f.name == "rng_seed" for f in dataclasses.fields(cls)):
            table.setdefault("rng_seed", seed)
        values[name] = parse_table(cls, table, name, path)
    return Config(
        name=path.stem,
        path=path,
        rng_seed=seed,
        data=parse_table(data_kinds[kind], data_raw, "data", path),
        tables=values,
        stated=frozenset(_dotted(raw)),
    )


def apply_override(raw: dict[str, Any], override: str) -> None:
    """Set one dotted key of `raw` in place, from ``table.key=value``."""
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {override}: legal is TABLE.KEY=VALUE, such as --set segmenter.epochs=5")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # --set data.root=/some/folder needs no quotes
    table = raw
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {override}: {part!r} is a value, not a table")
    table[parts[-1]] = value


def parse_table(cls: type, table: Any, where: str, path: Path) -> Any:
    """Turn a TOML table into the frozen dataclass `cls`; every key, type and range is checked."""
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: {where}: found {table!r}; legal: a table")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for key in table:
        if key not in fields:
            raise ConfigError(
                f"{path}: unknown key {f'{where}.{key}'!r}; legal in [{where}]: {', '.join(fields)}{nearest(key, fields)}"
            )
    values = {}
    for name, field in fields.items():
        if name in table:
            values[name] = _convert(hints[name], table[name], field.metadata, f"{where}.{name}", path)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{path}: {where}.{name} is missing; legal: {_describe(hints[name], field.metadata)}")
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {where}: {error}") from error


def _convert(hint: Any, value: Any, limits: Mapping[str, Any], where: str, path: Path) -> Any:
    """Return `value` as the declared type (so that 1 and 1.0 are one value), or raise."""

    def refuse() -> ConfigError:
        close = nearest(value, typing.get_args(hint)) if isinstance(value, str) and _is_literal(hint) else ""
        return ConfigError(f"{path}: {where}: found {value!r}; legal: {_describe(hint, limits)}{close}")

    if dataclasses.is_dataclass(hint):
        return parse_table(typing.cast(type, hint), value, where, path)
    if isinstance(hint, types.UnionType):  # T | None
        inner = next(t for t in typing.get_args(hint) if t is not type(None))
        return _convert(inner, value, limits, where, path)
    if _is_literal(hint):
        if isinstance(value, bool) or value not in typing.get_args(hint):
            raise refuse()
        return value
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise refuse()
        inner = typing.get_args(hint)[0]
        return tuple(_convert(inner, v, limits, f"{where}[{i}]", path) for i, v in enumerate(value))
    if typing.get_origin(hint) is dict:
        if not isinstance(value, dict):
            raise refuse()
        inner = typing.get_args(hint)[1]
        return {name: _convert(inner, v, limits, f"{where}.{name}", path) for name, v in value.items()}
    if hint is Path:
        if not isinstance(value, str) or not value or "\0" in value:
            raise refuse()
        return expand_path(value, where, path)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not hint:
        raise refuse()
    low, high = limits.get("low"), limits.get("high")
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        raise refuse()
    return value


def expand_path(text: str, where: str, config_path: Path) -> Path:
    """Expand ``~``, ``$NAME``, ``${NAME}`` and ``${NAME:-default}``; relative paths start at the config file."""

    def replace(match: re.Match[str]) -> str:
        name = match[1] or match[3]
        value = os.environ.get(name) or match[2]
        if value is None:
            raise ConfigError(f"{config_path}: {where}: the environment variable {name} is not set (in {text!r})")
        return value

    expanded = Path(_VARIABLE.sub(replace, text)).expanduser()
    return Path(os.path.normpath(config_path.parent / expanded))


def _is_literal(hint: Any) -> bool:
    return typing.get_origin(hint) is Literal


def _describe(hint: Any, limits: Mapping[str, Any]) -> str:
    """Return what is legal for a field, in words."""
    if isinstance(hint, types.UnionType):
        return _describe(next(t for t in typing.get_args(hint) if t is not type(None)), limits)
    if _is_literal(hint):
        return ", ".join(json.dumps(v) for v in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return f"a list, each element {_describe(typing.get_args(hint)[0], limits)}"
    if dataclasses.is_dataclass(hint) or typing.get_origin(hint) is dict:
        return "a table"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", Path: "a path"}
    low, high = limits.get("low"), limits.get("high")
    if low is not None and high is not None:
        return f"{words[hint]} from {low:g} to {high:g}"
    return words[hint] + (f" of at least {low:g}" if low is not None else "")


# --- plain values ------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """Return a dataclass, tuple or path as TOML / JSON values; keys whose value is None are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {name: plain(v) for name, v in pairs if v is not None}
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {name: plain(v) for name, v in value.items()}
    return str(value) if isinstance(value, Path) else value


def hashed(config: Any) -> dict[str, Any]:
    """Return the values that belong to an artifact's identity: all but the execution fields.

    A file counts by its content, not by where it lies.
    """
    values = plain(config)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.metadata.get("execution"):
            values.pop(field.name, None)
        elif isinstance(value, Path):
            try:
                with value.open("rb") as file:
                    values[field.name] = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise ConfigError(f"{field.name}: {value}: cannot be read: {error.strerror}") from error
    return values  # type: ignore[no-any-return]


def to_toml(values: Mapping[str, Any]) -> str:
    """Return plain values as a TOML document."""
    return tomli_w.dumps(dict(values))


def _dotted(table: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in table.items():
        keys += _dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return keys
