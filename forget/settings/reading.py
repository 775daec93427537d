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
"""Tables within tables in a file, at most; a spec needs four."""


SPECS = Path(__file__).parent / "specs"


def read_sweep(spec: str | Path) -> Sweep:
    """A sweep from a TOML file, or from the name of one that ships with the package.

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
    """A trial from a TOML or JSON file with its fields.

    Raises:
        BadInput: as `read_sweep`.
    """
    return validated(Trial, _beside(path, _read(path)), str(path))


def spec_path(spec: str | Path) -> Path:
    """The file of a spec that is given as a file, or by the name of one that ships with the package."""
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
    # A pipe would be waited for without end.
    if os.path.exists(path) and not path.is_file() and not path.is_dir():
        raise BadInput(f"{path}: the file cannot be read (not a file)")
    try:
        text = path.read_text(encoding="utf-8")
        fields = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise BadInput(f"{path}: the file cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 at byte {error.start}") from None
    # Beside the mistakes of grammar: a number of thousands of digits, and tables so deep that the
    # reader gives up.
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"{path}: not valid {'JSON' if path.suffix == '.json' else 'TOML'}: {error}"
        ) from None
    if not isinstance(fields, dict):
        raise BadInput(f"{path}: not a table of fields")
    level: list[Any] = [fields]
    for _ in range(DEPTH):
        level = [
            inner for one in level for inner in (one.values() if isinstance(one, dict) else one)
        ]
        level = [inner for inner in level if isinstance(inner, (dict, list))]
    if level:
        raise BadInput(f"{path}: more than {DEPTH} tables or lists within each other")
    return fields


def located(folder: str | Path, beside: Path, where: str = "") -> str:
    """The absolute path of a task folder that is named relative to another folder.

    Args:
        where: the file that names it.

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
    """The fields with the task folders, which a file names relative to itself, made absolute."""

    def absolute(folders: Any) -> Any:
        if isinstance(folders, list):
            return [absolute(folder) for folder in folders]
        return located(folders, path.parent, str(path)) if isinstance(folders, str) else folders

    return {key: absolute(value) if key == "folders" else value for key, value in fields.items()}
