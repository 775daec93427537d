"""Checks of a model's folder, by which nothing of a model is ever unpickled or imported.

Weights are safetensors and settings are JSON. transformers alone would read more: a pickle that the
index or the config names as weights, a file outside the folder, a model that an adapter names, and,
for whoever answers "y" at a terminal, Python code that comes with the model.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from forget.errors import BadInput

if TYPE_CHECKING:
    from transformers import PretrainedConfig

PICKLES = (".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth")
"""Endings of the files that PyTorch and its like write by pickle."""

PICKLED = (b"PK", b"\x80")
"""First bytes of PyTorch's archives and of bare pickles."""

INDEX = ".safetensors.index.json"
"""Ending of the files that say which file holds which weights."""


def check_folder(folder: Path) -> None:
    """Check a model's folder by its settings and the headers of its weights.

    Of a file of weights nine bytes are read, and its header where they are those of safetensors.

    Raises:
        BadInput: it is no model, or holds what is not read; names the file that is the reason.
    """
    _check_kind(folder)
    for path in files(folder):
        if path.suffix in (".safetensors", ".json") and not path.is_file():
            raise BadInput(f"{path}: the file cannot be read (not a file)")
    weights = [path for path in files(folder) if path.suffix == ".safetensors"]
    disguised = [path for path in weights if _is_pickle(path)]
    named = [path for path in files(folder) if path.suffix.lower() in PICKLES]
    if pickles := [path.name for path in named + disguised]:
        one = len(pickles) == 1
        it, are = ("it", "is a pickle, which is") if one else ("them", "are pickles, which are")
        others = set(weights) - set(disguised)
        cure = f"remove {it} from the folder" if others else f"convert {it} to safetensors"
        if not others and pickles[0].startswith("pytorch_model"):
            cure += f", {converting(str(folder))}"
        raise BadInput(f"{folder}: {', '.join(pickles)} {are} not read: {cure}")
    if not weights:
        raise BadInput(f"{folder}: the model has no *.safetensors")
    check_settings(folder)
    for path in weights:
        _check_header(path)


def converting(source: str) -> str:
    """Return the cure for weights that are pickles: two lines of Python that convert them."""
    return (
        "where you trust them, in Python: from transformers import"
        " AutoModelForCausalLM as Model, AutoTokenizer as Words; name, folder ="
        f" {source!r}, 'converted'; Model.from_pretrained(name).save_pretrained(folder);"
        " Words.from_pretrained(name).save_pretrained(folder)"
    )


def files(folder: Path) -> list[Path]:
    """Return what lies in a model's folder, without what file managers leave beside each file."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("._"))


def _check_kind(folder: Path) -> None:
    """Refuse a folder that holds no model of its own, by what it is.

    Raises:
        BadInput: an adapter, a Trainer's output, or no model at all.
    """
    _check_adapter(folder)
    if (folder / "config.json").exists():
        return
    steps = {
        int(path.name.rpartition("-")[2]): path
        for path in folder.glob("checkpoint-*")
        if path.name.rpartition("-")[2].isdecimal() and path.is_dir()
    }
    if steps:
        raise BadInput(
            f"{folder}: a Trainer's output, whose models lie inside it: "
            f"give {steps[max(steps)]}, its last checkpoint"
        )
    raise BadInput(f"{folder}: not a model folder, it has no config.json")


def _check_adapter(folder: Path) -> None:
    if (folder / "adapter_config.json").exists():
        base = _fields(folder / "adapter_config.json").get("base_model_name_or_path")
        of = f'"{base}"' if isinstance(base, str) and base else "another model"
        raise BadInput(
            f"{folder}: adapter_config.json makes it an adapter to {of:.200}: merge the two "
            "(peft's merge_and_unload) and save the whole with its tokenizer"
        )


def check_settings(folder: Path) -> None:
    """Check the JSON files of a model.

    Raises:
        BadInput: they ask for code, or for weights that are no safetensors beside them.
    """
    for name, known in (
        ("config.json", _knows_model),
        ("tokenizer_config.json", _knows_tokenizer),
    ):
        fields = _fields(folder / name)
        # transformers' own class is taken where it has one, since no code is trusted.
        if (code := fields.get("auto_map")) and not known(fields):
            raise BadInput(
                f"{folder}: {name} asks for code that comes with the model "
                f"(auto_map: {_first(code)}), which is never run, and transformers has no class "
                "of its own for it"
            )
    _check_adapter(folder)
    config = _fields(folder / "config.json")
    # A name with a slash is a repository of the hub with kernels, which are code.
    if "/" in (attention := str(config.get("attn_implementation"))):
        raise BadInput(
            f"{folder}: config.json asks for code of the hub "
            f"(attn_implementation: {attention}), which is never run"
        )
    if named := config.get("transformers_weights"):
        _check_names(folder, "config.json", [named], (".safetensors", INDEX))
    for path in sorted(folder.glob(f"*{INDEX}")):
        shards = _fields(path).get("weight_map")
        if isinstance(shards, dict):
            _check_names(folder, path.name, shards.values(), (".safetensors",))


def check_text(name: str, config: PretrainedConfig) -> None:
    """Check that a model's class gives the next token of a text from the text alone.

    The check is of the class in transformers: what it says that it gives out, and whether its
    forward reads the token ids that it is given.

    Args:
        name: the model's, for messages.
        config: its configuration; one without a causal class is let through.

    Raises:
        BadInput: the model gives out something else than text, or lives on another model's states.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return
    network: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    if "text" not in network.output_modalities:
        why = f"gives out {' and '.join(network.output_modalities)}"
    elif not _reads(network.forward, "input_ids"):
        why = "reads no token ids but what another model makes of them"
    else:
        return
    raise BadInput(
        f'model "{name}" is no language model of text: {network.__name__} {why}, so no option has'
        " a probability"
    )


def _reads(function: Any, argument: str) -> bool:
    """Tell whether a function's own code, without that of its decorators, reads an argument."""
    code = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    names = [node for node in ast.walk(code) if isinstance(node, ast.Name)]
    return any(one.id == argument and isinstance(one.ctx, ast.Load) for one in names)


def _knows_model(config: dict[str, Any]) -> bool:
    """Tell whether transformers has a causal class for a configuration."""
    # Who checks the folders of a report needs no torch.
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return config.get("model_type") in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def _knows_tokenizer(config: dict[str, Any]) -> bool:
    """Tell whether transformers has the class of a tokenizer."""
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    name = config.get("tokenizer_class")
    return isinstance(name, str) and tokenizer_class_from_name(name) is not None


def _check_names(
    folder: Path, file: str, names: Iterable[object], endings: tuple[str, ...]
) -> None:
    """Check the names by which a JSON file calls the weights.

    Args:
        folder: the model's folder, for messages.
        file: the JSON file, for messages.
        names: the names, of whatever type stands there.
        endings: endings of which each name must have one.

    Raises:
        BadInput: a name is none of a file in the folder, or has another ending.
    """
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(endings):
            raise BadInput(
                f'{folder}: {file} names "{name}" as weights, '
                "which is no *.safetensors in the folder"
            )


def _check_header(path: Path) -> None:
    """Check the header of a file of weights.

    Raises:
        BadInput: the file is no safetensors, or cut off, or holds weights that are whole numbers.
    """
    try:
        with safe_open(path, framework="pt") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118  it is no dict
    except (SafetensorError, OSError) as error:
        raise BadInput(f"{path}: not safetensors, or damaged ({error})") from None
    for name, kind in kinds.items():
        # Only weights count: masks, which older files hold beside them, are of other types.
        if name.endswith(".weight") and not kind.startswith(("F", "BF")):
            raise BadInput(
                f"{path}: {name} is of type {kind}; "
                "a model that is trained has weights of a floating-point type"
            )


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as stream:
        start = stream.read(9)
    # A safetensors file begins with eight bytes of a length, whatever they look like, and JSON.
    return start.startswith(PICKLED) and start[8:] != b"{"


def _fields(path: Path) -> dict[str, Any]:
    """Return the fields of a JSON file; none where there is no file."""
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
    """Return the first entry of an auto_map, of whatever type that is."""
    return str(next(iter(code.values()), "")) if isinstance(code, dict) else str(code)
