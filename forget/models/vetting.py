"""What a model's folder may hold. Weights are safetensors and settings are JSON: nothing of a model is unpickled or imported.

transformers alone would read more: a pickle that the index or the config names as weights, a file
outside the folder, a model that an adapter names, and, to whoever answers "y" at a terminal, Python
code that comes with the model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from forget.errors import BadInput

PICKLES = (".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth")
"""Endings of the files that PyTorch and its like write by pickle."""

PICKLED = (b"PK", b"\x80")
"""First bytes of PyTorch's archives and of bare pickles."""

INDEX = ".safetensors.index.json"


def check_folder(folder: Path) -> None:
    """Raises BadInput for a folder that is no model, or one that is not read, by the name of the file that is the reason.

    Of a file of weights nine bytes are read, and its header where they are safetensors'; of the
    others the JSON settings.
    """
    if not (folder / "config.json").exists():
        raise BadInput(f"{folder}: not a model folder, it has no config.json")
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".json") and not path.is_file():
            raise BadInput(f"{path}: the file cannot be read (not a file)")
    weights = sorted(folder.glob("*.safetensors"))
    disguised = [path for path in weights if _is_pickle(path)]
    pickles = (
        sorted(path for path in folder.iterdir() if path.suffix.lower() in PICKLES) + disguised
    )
    if pickles:
        cure = (
            "remove it from the folder"
            if set(weights) - set(disguised)
            else "convert it to safetensors"
        )
        raise BadInput(f"{folder}: {pickles[0].name} is a pickle, which is not read: {cure}")
    if not weights:
        raise BadInput(f"{folder}: the model has no *.safetensors")
    check_settings(folder)
    for path in weights:
        _check_header(path)


def check_settings(folder: Path) -> None:
    """Raises BadInput where the JSON files ask for code, or for weights that are no safetensors beside them."""
    for name in ("config.json", "tokenizer_config.json"):
        if code := _fields(folder / name).get("auto_map"):
            raise BadInput(
                f"{folder}: {name} asks for code that comes with the model (auto_map: {_first(code)}), which is never run; "
                "without auto_map the model is loaded where transformers itself knows its architecture"
            )
    if (folder / "adapter_config.json").exists():
        raise BadInput(
            f"{folder}: adapter_config.json makes it an adapter to another model: merge the two and save the whole"
        )
    config = _fields(folder / "config.json")
    # The name of a hub's repository stands for kernels, which are code.
    if "/" in (attention := str(config.get("attn_implementation"))):
        raise BadInput(
            f"{folder}: config.json asks for code of the hub (attn_implementation: {attention}), which is never run"
        )
    if named := config.get("transformers_weights"):
        _check_names(folder, "config.json", [named], (".safetensors", INDEX))
    for path in sorted(folder.glob(f"*{INDEX}")):
        shards = _fields(path).get("weight_map")
        _check_names(
            folder,
            path.name,
            shards.values() if isinstance(shards, dict) else (),
            (".safetensors",),
        )


def _check_names(
    folder: Path, file: str, names: Iterable[object], endings: tuple[str, ...]
) -> None:
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(endings):
            raise BadInput(
                f'{folder}: {file} names "{name}" as weights, which is no *.safetensors in the folder'
            )


def _check_header(path: Path) -> None:
    """Raises BadInput for a file that is no safetensors, or is cut off, or holds other things than fractions."""
    try:
        with safe_open(path, framework="pt") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118  it is no dict
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path}: not safetensors, or damaged ({error})") from None
    for name, kind in kinds.items():
        # Masks that older files hold beside the weights are of other types.
        if name.endswith(".weight") and not kind.startswith(("F", "BF")):
            raise BadInput(
                f"{path}: {name} is of type {kind}; a model that is trained has weights of a floating-point type"
            )


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as stream:
        start = stream.read(9)
    # Of safetensors the first eight bytes are a length, whatever they look like, and JSON follows.
    return start.startswith(PICKLED) and start[8:] != b"{"


def _fields(path: Path) -> dict[str, Any]:
    """Of a JSON object; empty where there is no file."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise BadInput(
            f'model "{path.parent}" cannot be loaded: {path.name} is not a valid JSON file'
        ) from None
    if not isinstance(fields, dict):
        raise BadInput(f'model "{path.parent}" cannot be loaded: {path.name} is not a JSON object')
    return fields


def _first(code: object) -> str:
    return str(next(iter(code.values()), "")) if isinstance(code, dict) else str(code)
