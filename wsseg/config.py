"""Values: TOML files and ``--set`` overrides become frozen dataclasses, strictly.

A field is declared with `setting`, which carries its range and says whether it belongs to the identity of a result.
Nothing here knows a stage: the tables a config may hold are handed in.
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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import tomli_w

from wsseg.errors import ConfigError, nearest
from wsseg.files import open_file
from wsseg.renamed_keys import RENAMED

_LONGEST_TOML = 1_000_000  # characters
# Each part of a dotted key costs the parser the time of all parts before it. Both patterns take linear time: a part is
# never scanned again from its middle, and an unclosed string ends with its line or with the text.
_DEEP_KEY = re.compile(r"(?<![\w-])(?:[\w-]++[ \t]*+\.[ \t]*+){20}")
_TOML_TEXT = re.compile(
    r'''"""(?:[^\\]|\\.)*?(?:"""|\Z)|'{3}.*?(?:'{3}|\Z)|"(?:[^"\\\n]|\\.)*+"?|'[^'\n]*+'?|\#[^\n]*+''', re.DOTALL
)  # strings and comments
_VARIABLE = re.compile(r"\$\$|\$\{(\w+)(?::-([^{}]*))?\}|\$(\w+)")
_MOST_SHOWN = 20  # problems of one file that are listed; the rest is counted
_LONGEST_SHOWN = 80  # characters of a value in a message


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
        low: smallest valid number (of each element, for a list).
        high: largest valid number.
        execution: True for how, not what, is computed (workers, device): never part of an artifact's key.
    """
    metadata = {"low": low, "high": high, "execution": execution}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def check_zoom(scale: tuple[float, ...]) -> None:
    """Raise ConfigError unless a range of random zoom is two factors, the smaller one first."""
    if len(scale) != 2 or scale[0] > scale[1]:
        raise ConfigError(f"scale: found {list(scale)}; expected: [smallest, largest], such as [0.7, 1.5]")


def check_scales(scales: tuple[float, ...]) -> None:
    """Raise ConfigError unless there is a scale to average over."""
    if not scales:
        raise ConfigError("scales: found []; expected: at least one scale, such as [1.0]")


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
    if (path := Path(expand_home(name))).suffix == ".toml" and path.exists():
        return path.resolve()
    shipped = {p.stem: p for p in sorted(shipped_folder(folder).glob("*.toml"))}
    if name in shipped:
        return shipped[name]
    beside = [str(path.with_name(p.name)) for p in path.parent.glob("*.toml")] if path.parent.is_dir() else []
    raise ConfigError(
        f"{name}: no such file, and no name of a shipped one in {folder}; "
        f"expected: a path ending in .toml, or {', '.join(shipped)}{nearest(name, [*shipped, *beside])}"
    )


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file in UTF-8, with or without a byte order mark.

    Raises:
        ConfigError: with file, line and reason: it is not TOML, or it would keep the parser busy for minutes.
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
        raise ConfigError(f"{path}: expected: at most {_LONGEST_TOML // 1000} kB, and at most 20 parts in a key")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits are no TOMLDecodeError
        reason = _shown(str(error), 200)
        raise ConfigError(f"{path}: not valid TOML: {reason}{_toml_hint(text, reason)}") from error


def _toml_hint(text: str, reason: str) -> str:
    """Return what to write instead in the line that a parser's reason names; empty if it is none of the usual slips."""
    number = re.search(r"at line (\d+)", reason)
    line = (text.split("\n")[int(number[1]) - 1 :] or [""])[0] if number else ""
    if any(mark in line for mark in "\u201c\u201d\u201e\u2018\u2019"):
        return "; write straight quotes"
    if "\u00a0" in line:
        return "; it holds a no-break space: write a plain one"
    if "\\" in line:
        return "; write / or \\\\ instead of \\, or put the path in single quotes"
    if re.search(r"=\s*(True|False)\b", line):
        return "; write true or false, in small letters"
    if ":" in line and "=" not in line:
        return "; TOML is written KEY = VALUE below [TABLE]; this looks like YAML"
    return ""


# --- loading -----------------------------------------------------------------------------------------------------


class _ProblemsError(ConfigError):
    """What is wrong with a value or a table: one line each, without the name of the file."""

    def __init__(self, *lines: str) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines

    def of(self, path: Path) -> ConfigError:
        """Return the error that names the file as well."""
        if len(self.lines) == 1:
            return ConfigError(f"{path}: {self.lines[0]}")
        more = f"; and {len(self.lines) - _MOST_SHOWN} more" if len(self.lines) > _MOST_SHOWN else ""
        return ConfigError(f"{len(self.lines)} problems in {path}: {'; '.join(self.lines[:_MOST_SHOWN])}{more}")


class _Collector:
    """Gathers the problems of several values, so that one error tells of all."""

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
        tables: dataclass of each table a config may hold, by name.
        data_kinds: dataclass of the table ``[data]`` by its key ``kind``.
        overrides: ``KEY=VALUE`` strings; VALUE is read as TOML, or taken as text where it is not.

    Raises:
        ConfigError: with file, key, what was found and what is valid, for every problem at once.
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
    """Return the seed, the data config and the stages' configs."""
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
        problems.lines.append("the table [data] is missing; it names the images and labels")
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
        ConfigError: one line that tells of every problem.
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
    """Return what is wrong with a key: it was renamed, or it is none."""
    if key in RENAMED:
        return f"{key} is now called {RENAMED[key]}"
    near = nearest(key.rpartition(".")[2] if table else key, known)
    return f"unknown key {_found(key)}; expected{f' in [{table}]' if table else ''}: {', '.join(known)}{near}"


def _convert(hint: Any, value: Any, limits: Mapping[str, Any], where: str, path: Path) -> Any:
    """Return `value` as the declared type (so that 1 and 1.0 are one value), or raise `_ProblemsError`."""

    def refuse() -> ConfigError:
        texts = [m for m in typing.get_args(hint) if isinstance(m, str)] if _is_literal(hint) else []
        close = nearest(value, texts) if isinstance(value, str) else ""
        return _ProblemsError(f"{where}: found {_found(value)}; expected: {_describe(hint, limits)}{close}")

    if dataclasses.is_dataclass(hint):
        return _parse_table(typing.cast(type, hint), value, where, path)
    if isinstance(hint, types.UnionType):  # T | None
        inner = next(t for t in typing.get_args(hint) if t is not type(None))
        return _convert(inner, value, limits, where, path)
    if _is_literal(hint):
        members = [] if isinstance(value, bool) else [m for m in typing.get_args(hint) if m == value]
        if not members:
            raise refuse()
        return members[0]  # 16.0 equals 16, and must not get another key
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
    return value + 0.0 if hint is float else value  # -0.0 becomes 0.0: they are equal, too


def _convert_all(
    hint: Any, values: dict[str, Any], limits: Mapping[str, Any], where: str, path: Path
) -> dict[str, Any]:
    """Convert the elements of a list or table; the names are what follows `where`."""
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
        ConfigError: there is no such user.
    """
    expanded = os.path.expanduser(text)  # noqa: PTH111 - Path drops the ./ that keeps a ~ as it is
    if expanded.startswith("~"):
        user = expanded.replace("\\", "/").split("/")[0]
        raise ConfigError(
            f"{_found(text)}: there is no home folder of {_found(user)}; "
            f"for a folder of that name in the current one write {_found('./' + user)}"
        )
    return expanded


def expand_path(text: str, where: str, config_path: Path) -> Path:
    """Expand ``~``, ``$NAME``, ``${NAME}`` and ``${NAME:-default}``; ``$$`` is a dollar sign.

    Relative paths start at the config file.

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
                f"{where}: the environment variable {_shown(name)} is not set (in {_found(text)}); for a dollar sign write $$"
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
            f"{where}: found {_found(text)}, and there is no such path; "
            "in single quotes, \\ is a plain character: 'C:\\new', and / serves as well"
        )
    return expanded


def as_config_path(path: Path | str) -> str:
    """Return a path as a config writes it, so that `expand_path` gives the same path: ``$`` doubled, no leading ``~``."""
    text = (path.as_posix() if isinstance(path, Path) else path).replace("$", "$$")
    return f"./{text}" if text.startswith("~") else text


def _found(value: Any) -> str:
    """Return a value as a message shows it."""
    return _shown(repr(value))


def _shown(text: str, most: int = _LONGEST_SHOWN) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _is_literal(hint: Any) -> bool:
    return typing.get_origin(hint) is Literal


def _describe(hint: Any, limits: Mapping[str, Any]) -> str:
    """Return what is expected for a field, in words."""
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
    return as_config_path(str(value)) if isinstance(value, Path) else value


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
                with open_file(value) as file:
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
