"""Specs and trials read from files."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any

from forget.errors import BadInput, nearest, shown, validated
from forget.settings.sweep import Sweep
from forget.settings.trial import Trial

DEPTH = 20
"""Most tables or lists within each other that a file may have; a spec needs four."""

SPECS = Path(__file__).parent / "specs"
"""Folder of the specs that ship with the package."""


def read_sweep(spec: str | Path) -> Sweep:
    """Read a sweep from a TOML file, or from the name of one that ships with the package.

    Raises:
        BadInput: no such file or name, not TOML, an unknown key, a value out of range.
    """
    path = spec_path(spec)
    fields = _read(path)
    fields.setdefault("name", path.stem)
    for table in ("base", "axes"):
        if isinstance(fields.get(table), dict):
            fields[table] = _beside(path, fields[table])
    return validated(Sweep, fields, str(path))


def read_trial(path: Path) -> Trial:
    """Read a trial from a TOML or JSON file with its fields.

    Raises:
        BadInput: as `read_sweep`.
    """
    return validated(Trial, _beside(path, _read(path)), str(path))


def spec_path(spec: str | Path) -> Path:
    """Return the file of a spec, given as a file or by the name of one that ships with the package.

    Raises:
        BadInput: no such name.
    """
    path = Path(spec)
    if path.suffix == ".toml":
        return path
    path = SPECS / f"{spec}.toml"
    if not os.path.exists(path):
        raise BadInput(
            f'no spec is named "{spec}"{nearest(str(spec), (p.stem for p in SPECS.glob("*.toml")))}'
        )
    return path


def _read(path: Path) -> dict[str, Any]:
    # Opening a pipe would wait for its other end for ever.
    if os.path.exists(path) and not path.is_file() and not path.is_dir():
        raise BadInput(f"{path}: the file cannot be read (not a file)")
    try:
        text = path.read_text(encoding="utf-8")
        fields = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise BadInput(f"{path}: the file cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 at byte {error.start}") from None
    # These are mistakes of grammar, thousands of digits in a number, and tables so deep that the
    # reader gives up.
    except (ValueError, RecursionError) as error:
        language = "JSON" if path.suffix == ".json" else "TOML"
        raise BadInput(f"{path}: not valid {language}: {error}") from None
    if not isinstance(fields, dict):
        raise BadInput(f"{path}: not a table of fields")
    if _deeper(fields, DEPTH):
        raise BadInput(f"{path}: more than {DEPTH} tables or lists within each other")
    return fields


def _deeper(fields: dict[str, Any], depth: int) -> bool:
    """Return whether more than `depth` tables or lists lie within each other."""
    level: list[Any] = [fields]
    for _ in range(depth):
        inner: list[Any] = []
        for one in level:
            inner += one.values() if isinstance(one, dict) else one
        level = [one for one in inner if isinstance(one, (dict, list))]
    return bool(level)


def located(folder: str | Path, beside: Path, where: str = "") -> str:
    """Return the absolute path of a task folder that is named relative to another folder.

    Args:
        folder: the path as it is written.
        beside: the other folder.
        where: the file that names it, for messages.

    Raises:
        BadInput: a home that nobody has, a link to itself, or a zero byte.
    """
    try:
        return str((beside / Path(folder).expanduser()).resolve())
    except (ValueError, RuntimeError, OSError) as error:
        place = f"{where}: " if where else ""
        raise BadInput(
            f"{place}the task folder {shown(str(folder))} cannot be found: {error}"
        ) from None


def _beside(path: Path, fields: dict[str, Any]) -> dict[str, Any]:
    """Make the task folders absolute, which a file names relative to itself."""

    def absolute(folders: Any) -> Any:
        if isinstance(folders, list):
            return [absolute(folder) for folder in folders]
        return located(folders, path.parent, str(path)) if isinstance(folders, str) else folders

    return {key: absolute(value) if key == "folders" else value for key, value in fields.items()}
