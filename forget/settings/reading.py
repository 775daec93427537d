"""Specs and trials read from files."""

from __future__ import annotations

import codecs
import json
import os
import re
import tomllib
from pathlib import Path
from typing import Any

from forget.errors import BadInput, nearest, validated
from forget.settings import addresses
from forget.settings.sweep import Sweep
from forget.settings.trial import Trial

DEPTH = 20
"""Most tables or lists within each other that a file may have; a spec needs four."""

SPECS = Path(__file__).parent / "specs"
"""Folder of the specs that ship with the package."""


BUILT_IN = frozenset(
    (
        *("tiny", "smollm2-135m", "smollm2-135m-base", "smollm2-360m", "smollm2-1.7b"),
        *("llama-2-7b", "gpt-j-6b", "gpt2", "pythia-70m", "pythia-160m", "pythia-410m"),
        *("pythia-1b", "pythia-1.4b", "pythia-2.8b", "pythia-6.9b"),
    )
)
"""Names of models (forget.models.catalogue.MODELS), which no folder beside a spec takes over."""

BOMS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
"""Marks at the start of files in other encodings than UTF-8."""


def read_sweep(spec: str | Path) -> Sweep:
    """Read a sweep from a TOML file, or from the name of one that ships with the package.

    Paths in it are relative to the file's folder.

    Raises:
        BadInput: no such file or name, not TOML, an unknown key, a value out of range.
    """
    path = spec_path(spec)
    fields = read_table(path)
    fields.setdefault("name", path.stem)
    for table in ("base", "axes"):
        if isinstance(fields.get(table), dict):
            fields[table] = _beside(path, fields[table], table)
    if isinstance(where := fields.get("store"), str) and where.strip():
        fields["store"] = addresses.store(where, path.parent, f"{path}: store: ")
    return validated(Sweep, fields, str(path))


def read_trial(path: Path) -> Trial:
    """Read a trial from a TOML or JSON file with its fields.

    Paths in it are relative to the file's folder.

    Raises:
        BadInput: as `read_sweep`.
    """
    path = addresses.folder(path, "the file") if str(path).startswith("~") else path
    return validated(Trial, _beside(path, read_table(path)), str(path))


def spec_path(spec: str | Path) -> Path:
    """Return the file of a spec, given as a file or by the name of one that ships with the package.

    Raises:
        BadInput: no such name.
    """
    path = Path(spec)
    if path.suffix == ".toml":
        return addresses.folder(path, "the spec") if str(spec).startswith("~") else path
    path = SPECS / f"{spec}.toml"
    if not os.path.exists(path):
        raise BadInput(
            f'no spec is named "{spec}"{nearest(str(spec), (p.stem for p in SPECS.glob("*.toml")))}'
        )
    return path


def read_table(path: Path) -> dict[str, Any]:
    """Read the fields of a TOML or JSON file.

    Raises:
        BadInput: no such file, not UTF-8, or none of its language.
    """
    # Opening a pipe would wait for its other end for ever.
    if os.path.exists(path) and not path.is_file() and not path.is_dir():
        raise BadInput(f"{path}: the file cannot be read (not a file)")
    try:
        text = decoded(path.read_bytes(), str(path))
    except OSError as error:
        raise BadInput(f"{path}: the file cannot be read ({error.strerror})") from None
    fields = parsed(text, path)
    if not isinstance(fields, dict):
        raise BadInput(f"{path}: not a table of fields")
    if _deeper(fields, DEPTH):
        raise BadInput(f"{path}: more than {DEPTH} tables or lists within each other")
    return fields


def decoded(content: bytes, where: str, line: int = 1) -> str:
    """Return the text of a file, or of a line of one, without the mark that Windows puts in front.

    Args:
        content: what was read.
        where: the file, for messages.
        line: the number of the first line that was read.

    Raises:
        BadInput: it is not UTF-8; names the line and what it may be.
    """
    if line == 1:
        for mark, encoding in BOMS.items():
            if content.startswith(mark):
                raise BadInput(f"{where}: saved as {encoding}; save it as UTF-8")
        content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        # Of what is there nothing is quoted: it may be no text, and none that is ours.
        before = content[: error.start]
        column = error.start - before.rfind(b"\n")
        raise BadInput(
            f"{where}, line {line + before.count(10)}: not UTF-8 at byte {column} "
            "(saved as Latin-1 or Windows-1252?); save the file as UTF-8"
        ) from None


def parsed(text: str, path: Path) -> Any:
    """Return the value of a text of TOML or, where the file is called so, of JSON.

    Raises:
        BadInput: it is none; names the line.
    """
    language = "JSON" if path.suffix == ".json" else "TOML"
    try:
        return json.loads(text) if language == "JSON" else tomllib.loads(text)
    # These are mistakes of grammar, thousands of digits in a number, and tables so deep that the
    # reader gives up.
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not valid {language}: {error}{_quotes(text, error)}") from None


def _quotes(text: str, error: Exception) -> str:
    """Return what is to be said of typographic quotes in the line of a mistake, if it has any."""
    line = re.search(r"line (\d+)", str(error))
    found = re.search("[\u2018-\u201f]", text.split("\n")[int(line[1]) - 1] if line else "")
    return f'; {found[0]} is a typographic quote: write "' if found else ""


def _deeper(fields: dict[str, Any], depth: int) -> bool:
    """Return whether more than `depth` tables or lists lie within each other."""
    level: list[Any] = [fields]
    for _ in range(depth):
        inner: list[Any] = []
        for one in level:
            inner += one.values() if isinstance(one, dict) else one
        level = [one for one in inner if isinstance(one, (dict, list))]
    return bool(level)


def _beside(path: Path, fields: dict[str, Any], table: str = "") -> dict[str, Any]:
    """Make the paths absolute, which a file names relative to itself.

    Args:
        path: the file.
        fields: those of a trial, or lists of their values.
        table: the name of the table that holds them.
    """

    def absolute(value: Any, key: str) -> Any:
        if isinstance(value, list):
            return [absolute(one, key) for one in value]
        if not isinstance(value, str):
            return value
        where = f"{path}: {table + '.' * bool(table)}{key}: "
        if key == "model":
            return _model(value, path.parent, where)
        place = addresses.folder(value, f"{where}the task folder", path.parent).resolve()
        if not place.exists():
            _refuse_elsewhere(value, path.parent, where)
        return str(place)

    return {
        key: absolute(value, key) if key in ("folders", "model") else value
        for key, value in fields.items()
    }


def _model(name: str, beside: Path, where: str) -> str:
    """Return the name of a model; a folder's is its absolute path, with its depth."""
    stem, slash, depth = name.rpartition("/")
    if not (stem and depth.isdecimal()):
        stem, slash, depth = name, "", ""
    if stem in BUILT_IN or "\0" in stem:
        return name
    place = addresses.folder(stem, f"{where}the model", beside)
    if re.match(r"[~/]|\.\.?(/|$)", stem) or place.is_dir():
        # "m/15" may itself be a folder.
        return str(place / depth if (place / depth).is_dir() else f"{place}{slash}{depth}")
    _refuse_elsewhere(stem, beside, where)
    return name


def _refuse_elsewhere(name: str, beside: Path, where: str) -> None:
    """Raise BadInput where a path that a file names leads on from the working directory alone."""
    if os.path.isdir(name):
        raise BadInput(
            f'{where}"{name}" is a folder of the working directory, but paths in a file are '
            f'relative to the file\'s own folder: write "{os.path.relpath(name, beside)}"'
        )
