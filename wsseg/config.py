"""Reads TOML files and ``--set`` overrides into frozen dataclasses, and checks every key, type and range.

A field is declared with `setting`, which defines its range and whether an artifact's key depends on it. This module knows
no stages: its callers pass the tables that a config may contain.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import re
import tomllib
import types
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import tomli_w

from wsseg.errors import ConfigError, nearest
from wsseg.files import open_file
from wsseg.renamed_keys import RENAMED

_LONGEST_TOML = 1_000_000  # characters
# The parser takes quadratic time in the number of parts of a dotted key. Both patterns take linear time: a part is never
# scanned again from its middle, and an unclosed string ends with its line or with the text.
_DEEP_KEY = re.compile(r"(?<![\w-])(?:[\w-]++[ \t]*+\.[ \t]*+){20}")
_TOML_TEXT = re.compile(
    r'''"""(?:[^\\]|\\.)*?(?:"""|\Z)|'{3}.*?(?:'{3}|\Z)|"(?:[^"\\\n]|\\.)*+"?|'[^'\n]*+'?|\#[^\n]*+''', re.DOTALL
)  # strings and comments
_VARIABLE = re.compile(r"\$\$|\$\{(\w+)(?::-([^{}]*))?\}|\$(\w+)")
_MOST_SHOWN = 20  # problems of one file that an error lists; the others are counted
_LONGEST_SHOWN = 80  # characters of a value in a message


def setting(
    default: Any = dataclasses.MISSING,
    *,
    low: float | None = None,
    high: float | None = None,
    execution: bool = False,
    role: str = "",
) -> Any:
    """Declare a field of a config dataclass.

    Args:
        default: the value if the config has no such key; without a default the key is required.
        low: smallest valid number (for a list, of each element).
        high: largest valid number.
        execution: True for values that do not affect the result (workers, device); no key of an artifact depends on them.
        role: an optional input of the stage without which the value has no effect; a key depends on the value only if the
            stage has that input.
    """
    metadata = {"low": low, "high": high, "execution": execution, "role": role}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def check_zoom(scale: tuple[float, ...]) -> None:
    """Raise ConfigError if a range of random zoom is not two factors, the smaller one first."""
    if len(scale) != 2 or scale[0] > scale[1]:
        raise ConfigError(f"scale: found {list(scale)}; expected: [smallest, largest], such as [0.7, 1.5]")


def check_scales(scales: tuple[float, ...]) -> None:
    """Raise ConfigError if there are no scales to average over."""
    if not scales:
        raise ConfigError("scales: found []; expected: at least one scale, such as [1.0]")


@dataclass(frozen=True)
class Config:
    """One checked config file.

    Args:
        name: file name without suffix.
        path: path of the file.
        rng_seed: seed of all random numbers.
        data: an instance of one of the data dataclasses.
        tables: the stages' dataclass instances by table name.
        stated: dotted keys that the file or an override sets; all other values are defaults.
    """

    name: str
    path: Path
    rng_seed: int
    data: Any
    tables: Mapping[str, Any]
    stated: frozenset[str] = frozenset()

    def as_dict(self) -> dict[str, Any]:
        """Return all values, including defaults, as plain TOML / JSON values."""
        tables = {name: plain(table) for name, table in self.tables.items()}
        return {"rng_seed": self.rng_seed, "data": plain(self.data), **tables}


# --- shipped files -----------------------------------------------------------------------------------------------


def shipped_folder(name: str) -> Path:
    """Return a folder of shipped files: ``wsseg/<name>`` in an installed wheel, ``<name>`` beside wsseg in a checkout."""
    package = Path(str(resources.files("wsseg")))
    return package / name if (package / name).is_dir() else package.parent / name


def find_file(name: str, folder: str) -> Path:
    """Return the path of a TOML file.

    Args:
        name: a path ending in .toml, or the name of a shipped file.
        folder: folder of the shipped files.

    Raises:
        ConfigError: the file does not exist; the message lists the shipped names.
    """
    if (path := Path(expand_home(name))).suffix == ".toml" and path.exists():
        return path.resolve()
    shipped = {p.stem: p for p in sorted(shipped_folder(folder).glob("*.toml"))}
    if name in shipped:
        return shipped[name]
    neighbours = [str(path.with_name(p.name)) for p in path.parent.glob("*.toml")] if path.parent.is_dir() else []
    raise ConfigError(
        f"{name}: no such file, and not the name of a file shipped in {folder}; "
        f"expected: a path ending in .toml, or {', '.join(shipped)}{nearest(name, [*shipped, *neighbours])}"
    )


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file in UTF-8, with or without a byte order mark.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or would take the parser minutes; the message has the line.
    """
    try:
        with open_file(path) as file:
            content = file.read(4 * _LONGEST_TOML + 1)
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: not UTF-8 text ({error.reason}); save it as UTF-8") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if len(text) > _LONGEST_TOML or _DEEP_KEY.search(_TOML_TEXT.sub("_", text)):
        raise ConfigError(f"{path}: expected: at most {_LONGEST_TOML // 1000} kB, and keys of at most 20 parts")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits raises a plain ValueError
        reason = _shown(str(error), 200)
        raise ConfigError(f"{path}: not valid TOML: {reason}{_toml_hint(text, reason)}") from error


def _toml_hint(text: str, reason: str) -> str:
    """Return advice for a common mistake in the line that the parser's reason names; empty for other mistakes."""
    number = re.search(r"at line (\d+)", reason)
    line = (text.split("\n")[int(number[1]) - 1 :] or [""])[0] if number else ""
    if any(mark in line for mark in "\u201c\u201d\u201e\u2018\u2019"):
        return "; use straight quotes"
    if "\u00a0" in line:
        return "; replace the no-break space by a plain space"
    if "\\" in line:
        return "; use / or \\\\ instead of \\, or put the path in single quotes"
    if re.search(r"=\s*(True|False)\b", line):
        return "; use true or false, in lower case"
    if ":" in line and "=" not in line:
        return "; this looks like YAML; TOML has KEY = VALUE below [TABLE]"
    return ""


# --- loading -----------------------------------------------------------------------------------------------------


class _ProblemsError(ConfigError):
    """The problems of a value or a table, one line each, without the name of the file."""

    def __init__(self, *lines: str) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines

    def of(self, path: Path) -> ConfigError:
        """Return an error that also names the file."""
        if len(self.lines) == 1:
            return ConfigError(f"{path}: {self.lines[0]}")
        more = f"; and {len(self.lines) - _MOST_SHOWN} more" if len(self.lines) > _MOST_SHOWN else ""
        return ConfigError(f"{len(self.lines)} problems in {path}: {'; '.join(self.lines[:_MOST_SHOWN])}{more}")


class _Collector:
    """Collects the problems of several values, so that one error lists all of them."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextlib.contextmanager
    def gather(self) -> Iterator[None]:
        try:
            yield
        except _ProblemsError as error:
            self.lines += error.lines

    def stop_if_any(self) -> None:
        if self.lines:
            raise _ProblemsError(*self.lines)


def load_config(
    path: Path,
    tables: Mapping[str, type],
    data_kinds: Mapping[str, type],
    overrides: tuple[str, ...] = (),
) -> Config:
    """Read and check a config file.

    Args:
        path: the TOML file.
        tables: dataclass of each table that a config may contain, by name.
        data_kinds: dataclass of the table ``[data]`` by its key ``kind``.
        overrides: ``KEY=VALUE`` strings; VALUE is parsed as TOML, or taken as text if it is not TOML.

    Raises:
        ConfigError: some values are not valid; for each of them, the message has the key, the value found and the values
            expected.
    """
    raw = read_toml(path)
    for override in overrides:
        apply_override(raw, override)
    try:
        seed, data, values = _load_values(raw, tables, data_kinds, path)
    except _ProblemsError as error:
        raise error.of(path) from error
    return Config(
        name=path.stem, path=path, rng_seed=seed, data=data, tables=values, stated=frozenset(_dotted(raw)),
    )  # fmt: skip


def _load_values(
    raw: dict[str, Any], tables: Mapping[str, type], data_kinds: Mapping[str, type], path: Path
) -> tuple[int, Any, dict[str, Any]]:
    """Return the seed, the data config and the configs of the stages by table name."""
    problems = _Collector()
    known = ("rng_seed", "data", *tables)
    for key in raw:
        if key not in known:
            problems.lines.append(_unknown_key(key, known, ""))
            if key in RENAMED and isinstance(raw[key], dict):
                problems.lines += [_unknown_key(f"{key}.{k}", (), key) for k in raw[key] if f"{key}.{k}" in RENAMED]
    seed, data = 0, None
    with problems.gather():
        seed = _convert(int, raw.get("rng_seed", 0), {"low": 0, "high": 2**32 - 1}, "rng_seed", path)
    data_raw = raw.get("data")
    kind = data_raw.get("kind") if isinstance(data_raw, dict) else None
    if not isinstance(data_raw, dict):
        problems.lines.append("the table [data] is missing; expected: the paths of images and labels")
    elif not isinstance(kind, str) or kind not in data_kinds:
        expected = ", ".join(repr(k) for k in data_kinds)
        problems.lines.append(f"data.kind: found {_found(kind)}; expected: {expected}{nearest(str(kind), data_kinds)}")
    else:
        with problems.gather():
            data = _parse_table(data_kinds[kind], data_raw, "data", path)
    values = {}
    for name, cls in tables.items():
        table = dict(raw.get(name, {})) if isinstance(raw.get(name, {}), dict) else raw[name]
        if isinstance(table, dict) and any(f.name == "rng_seed" for f in dataclasses.fields(cls)):
            table.setdefault("rng_seed", seed)
        with problems.gather():
            values[name] = _parse_table(cls, table, name, path)
    problems.stop_if_any()
    return seed, data, values


def apply_override(raw: dict[str, Any], override: str) -> None:
    """Set one dotted key of `raw` in place, from ``table.key=value``."""
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts) or len(parts) > 20:
        raise ConfigError(f"--set {_shown(override)}: expected TABLE.KEY=VALUE, such as --set segmenter.epochs=5")
    try:
        document = tomllib.loads(f"value = {text}")
        value = document["value"] if len(document) == 1 else text.strip()
    except (ValueError, RecursionError):
        value = text.strip()  # --set data.root=/some/folder needs no quotes
    table = raw
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {_shown(override)}: {part!r} is a value, not a table")
    table[parts[-1]] = value


def parse_table(cls: type, table: Any, where: str, path: Path) -> Any:
    """Turn a TOML table into the frozen dataclass `cls`; every key, type and range is checked.

    Raises:
        ConfigError: some values are not valid; one line lists all of them.
    """
    try:
        return _parse_table(cls, table, where, path)
    except _ProblemsError as error:
        raise error.of(path) from error


def _parse_table(cls: type, table: Any, where: str, path: Path) -> Any:
    if not isinstance(table, dict):
        raise _ProblemsError(f"{where}: found {_found(table)}; expected: a table")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    problems = _Collector()
    for key in table:
        if key not in fields:
            problems.lines.append(_unknown_key(f"{where}.{key}", fields, where))
    values = {}
    for name, field in fields.items():
        if name in table:
            with problems.gather():
                values[name] = _convert(hints[name], table[name], field.metadata, f"{where}.{name}", path)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.lines.append(f"{where}.{name} is missing; expected: {_describe(hints[name], field.metadata)}")
    problems.stop_if_any()
    try:
        return cls(**values)
    except ConfigError as error:
        raise _ProblemsError(f"{where}: {error}") from error


def _unknown_key(key: str, known: Iterable[str], table: str) -> str:
    """Return the problem of an unknown key; a renamed key is named with its new name."""
    if key in RENAMED:
        return f"{key} is now called {RENAMED[key]}"
    near = nearest(key.rpartition(".")[2] if table else key, known)
    return f"unknown key {_found(key)}; expected{f' in [{table}]' if table else ''}: {', '.join(known)}{near}"


def _convert(hint: Any, value: Any, limits: Mapping[str, Any], where: str, path: Path) -> Any:
    """Return `value` as the declared type, so that 1 and 1.0 are the same value.

    Raises:
        _ProblemsError: the value has another type or is out of range.
    """

    def refuse() -> ConfigError:
        texts = [m for m in typing.get_args(hint) if isinstance(m, str)] if _is_literal(hint) else []
        close = nearest(value, texts) if isinstance(value, str) else ""
        return _ProblemsError(f"{where}: found {_found(value)}; expected: {_describe(hint, limits)}{close}")

    if dataclasses.is_dataclass(hint):
        return _parse_table(typing.cast(type, hint), value, where, path)
    if _is_optional(hint):
        inner = next(t for t in typing.get_args(hint) if t is not type(None))
        return _convert(inner, value, limits, where, path)
    if _is_literal(hint):
        members = [] if isinstance(value, bool) else [m for m in typing.get_args(hint) if m == value]
        if not members:
            raise refuse()
        return members[0]  # 16.0 becomes 16, so that both give the same key
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise refuse()
        inner = typing.get_args(hint)[0]
        return tuple(_convert_all(inner, {f"[{i}]": v for i, v in enumerate(value)}, limits, where, path).values())
    if typing.get_origin(hint) is dict:
        if not isinstance(value, dict):
            raise refuse()
        inner = typing.get_args(hint)[1]
        converted = _convert_all(inner, {f".{name}": v for name, v in value.items()}, limits, where, path)
        return dict(zip(value, converted.values(), strict=True))
    if hint is Path:
        if not isinstance(value, str) or not value or "\0" in value:
            raise refuse()
        return expand_path(value, where, path)
    if hint is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise refuse()
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint or (hint is float and not math.isfinite(value)):
        raise refuse()
    low, high = limits.get("low"), limits.get("high")
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        raise refuse()
    return value + 0.0 if hint is float else value  # -0.0 becomes 0.0, because they are equal


def _convert_all(
    hint: Any, values: dict[str, Any], limits: Mapping[str, Any], where: str, path: Path
) -> dict[str, Any]:
    """Convert the elements of a list or table; their names are appended to `where` in messages."""
    problems = _Collector()
    converted = {}
    for name, value in values.items():
        with problems.gather():
            converted[name] = _convert(hint, value, limits, f"{where}{name}", path)
    problems.stop_if_any()
    return converted


def expand_home(text: str) -> str:
    """Expand a leading ``~`` or ``~user``.

    Raises:
        ConfigError: the user does not exist.
    """
    expanded = os.path.expanduser(text)  # noqa: PTH111 - Path drops a leading ./, which protects a ~
    if expanded.startswith("~"):
        user = expanded.replace("\\", "/").split("/")[0]
        raise ConfigError(
            f"{_found(text)}: no user has the home folder {_found(user)}; "
            f"for a folder of this name in the current folder, write {_found('./' + user)}"
        )
    return expanded


def expand_path(text: str, where: str, config_path: Path) -> Path:
    """Expand ``~``, ``$NAME``, ``${NAME}`` and ``${NAME:-default}``; ``$$`` is a dollar sign.

    Relative paths are relative to the folder of the config file.

    Raises:
        ConfigError: an environment variable is not set, or ``~user`` is unknown.
    """

    def replace(match: re.Match[str]) -> str:
        name = match[1] or match[3]
        if name is None:
            return "$"
        value = os.environ.get(name) or match[2]
        if value is None:
            raise _ProblemsError(
                f"{where}: the environment variable {_shown(name)} is not set (in {_found(text)}); for a dollar sign, write $$"
            )
        return value

    try:
        expanded = Path(os.path.normpath(config_path.parent / expand_home(_VARIABLE.sub(replace, text))))
    except _ProblemsError:
        raise
    except ConfigError as error:
        raise _ProblemsError(f"{where}: {error}") from error
    if not text.isprintable() and not os.path.lexists(expanded):
        raise _ProblemsError(
            f"{where}: found {_found(text)}, a path that does not exist; "
            "use /, or single quotes, in which \\ is a plain character: 'C:\\new'"
        )
    return expanded


def as_config_path(path: Path | str) -> str:
    """Return a path as text that `expand_path` turns back into it: ``$`` is doubled, a leading ``~`` gets ``./``."""
    text = (path.as_posix() if isinstance(path, Path) else path).replace("$", "$$")
    return f"./{text}" if text.startswith("~") else text


def _found(value: Any) -> str:
    """Return a value as text for a message."""
    return _shown(repr(value))


def _shown(text: str, most: int = _LONGEST_SHOWN) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _is_optional(hint: Any) -> bool:
    """Return whether a type is ``T | None``; with a Literal, Python writes it as a typing.Union."""
    return isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union


def _is_literal(hint: Any) -> bool:
    return typing.get_origin(hint) is Literal


def _describe(hint: Any, limits: Mapping[str, Any]) -> str:
    """Return a description of the valid values of a field."""
    if _is_optional(hint):
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
    """Return a dataclass, tuple or path as TOML / JSON values; keys with the value None are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {name: plain(v) for name, v in pairs if v is not None}
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {name: plain(v) for name, v in value.items()}
    return as_config_path(str(value)) if isinstance(value, Path) else value


def hashed(config: Any, roles: Collection[str] = ()) -> dict[str, Any]:
    """Return the values that an artifact's key depends on.

    These are all except the execution fields and the values of optional inputs that the stage does not have. A file is
    represented by the digest of its content, not by its path, and a folder by the digests of its files.

    Args:
        config: the values of a stage.
        roles: the inputs of the stage.
    """
    values = plain(config)
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        role = field.metadata.get("role", "")
        if field.metadata.get("execution") or (role and role not in roles):
            values.pop(field.name, None)
        elif isinstance(value, Path):
            try:
                values[field.name] = _folder_digest(value) if value.is_dir() else _file_digest(value)
            except OSError as error:
                raise ConfigError(f"{field.name}: {value}: cannot be read: {error.strerror}") from error
        elif dataclasses.is_dataclass(value):
            values[field.name] = hashed(value)
    return values  # type: ignore[no-any-return]


def _file_digest(path: Path) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder_digest(folder: Path) -> str:
    """Return the digest of the names and contents of a folder's files that are not hidden."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    listing = "".join(f"{_file_digest(path)} {path.name}\n" for path in files)
    return hashlib.sha256(listing.encode()).hexdigest()


def to_toml(values: Mapping[str, Any]) -> str:
    """Return plain values as a TOML document."""
    return tomli_w.dumps(dict(values))


def _dotted(table: Mapping[str, Any], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for key, value in table.items():
        keys += _dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return keys
