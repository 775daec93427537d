"""Ways in which what a user hands in, or what lies in a store, gets broken.

They are drawn by hypothesis and run by tests/test_broken.py. A mutation changes one thing in a
folder. Whether what is left is still valid is for the platform to say.
"""

import json
import math
import os
import pickle
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st


@dataclass(frozen=True)
class Mutation:
    """Changes one file under a folder; `name` says how, for whoever reads of a failure."""

    name: str
    apply: Callable[[Path], object]

    def __repr__(self) -> str:
        return self.name


LOOSE = [
    *(
        None,
        True,
        0,
        -1,
        3,
        1.5,
        -0.0,
        1e308,
        5e-324,
        math.nan,
        math.inf,
        10**12,
        -(10**12),
        10**400,
        2**63,
    ),
    *(
        "",
        " ",
        "x",
        "tiny",
        "1",
        "nan",
        "\0",
        "a\0b",
        "a\nb",
        "naïve\u2028語\U0001f600",
        "../..",
        "~nobody/x",
        "/",
        "y" * 5000,
    ),
    *([], [[]], [0], ["x", "x"], {}, {"x": 1}, {"low": 1, "high": 0}, {"": {"": []}}),
]
"""Values of the wrong kind: other types, ranges' ends, empty things, letters of every kind."""

loose = st.sampled_from(LOOSE) | st.integers() | st.floats() | st.text(max_size=8)

ALPHABET = b"\0\x01\n\r\t \"'{}[]=,.:#\\-0179eaz\x7f\x80\xc3\xff"


def toml(value: Any) -> str:
    """Write a value as TOML has it within a line. TOML has no null."""
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{json.dumps(str(key))} = {toml(inner)}" for key, inner in value.items())
            + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return (
        '"null"'
        if value is None
        else json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    )


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a tree of tables and lists, the tree's own aside."""
    if isinstance(tree, dict):
        inner = tree.items()
    else:
        inner = enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inner:
        yield (*path, key)
        yield from places(value, (*path, key))


@st.composite
def trees(draw: st.DrawFn, tree: Any, values: st.SearchStrategy[Any] = loose) -> tuple[str, Any]:
    """Draw the tree with one value replaced, removed, doubled or moved to a misspelt key."""
    tree = json.loads(json.dumps(tree))
    path = draw(st.sampled_from(list(places(tree))))
    *above, last = path
    within = tree
    for key in above:
        within = within[key]
    how = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add", "misspell"]))
    value = draw(values)
    if how == "remove":
        del within[last]
    elif how == "add" and isinstance(within, dict):
        within[
            draw(st.sampled_from(["", "x", "a\nb", "seed ", "z" * 3000]) | st.text(max_size=5))
        ] = value
    elif how == "misspell" and isinstance(within, dict):
        within[f"{last}s"[1:]] = within.pop(last)
    else:
        how, within[last] = "replace", value
    return f"{how} {'.'.join(map(str, path))}: {value!r:.60}", tree


Change = Callable[[bytes], bytes]


@st.composite
def damage(draw: st.DrawFn, size: int, rough: bool = True) -> tuple[str, Change]:
    """Draw bytes cut off, flipped or overwritten.

    Those of a text are, if `rough`, also removed, put in, or encoded anew.
    """
    whole: dict[str, Change] = {
        "as UTF-16": lambda text: text.decode(errors="replace").encode("utf-16"),
        "as UTF-8 with a mark": lambda text: b"\xef\xbb\xbf" + text,
        "with Windows' line ends": lambda text: text.replace(b"\n", b"\r\n"),
        "nothing but a line end": lambda text: b"\n",
        "twice": lambda text: text + text,
    }
    ways = ["cut", "flip", "zero", "empty"] + ["put", "put", "remove", *whole] * rough
    way = draw(st.sampled_from(ways))
    if way == "empty":
        return way, lambda text: b""
    if way in whole:
        return way, whole[way]
    at = draw(st.integers(0, max(0, size - 1)))
    if way == "cut":
        return f"cut at {at}", lambda text: text[:at]
    if way == "flip":
        bit = 1 << draw(st.integers(0, 7))
        return (
            f"flip bit {bit} at {at}",
            lambda text: text[:at] + bytes([text[at] ^ bit]) + text[at + 1 :],
        )
    if way == "put":
        junk = bytes(draw(st.lists(st.sampled_from(ALPHABET), min_size=1, max_size=6)))
        return f"put {junk!r} at {at}", lambda text: text[:at] + junk + text[at:]
    few = draw(st.integers(1, 40))
    fill = bytes(few) if way == "zero" else b""
    return f"{way} {few} at {at}", lambda text: text[:at] + fill + text[at + few :]


def put(make: Callable[[Path], object]) -> Callable[[Path], object]:
    def instead(path: Path) -> None:
        path.unlink()
        make(path)

    return instead


NO_FILE: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "a folder": put(Path.mkdir),
    "a link to itself": put(lambda path: path.symlink_to(path.name)),
    "a link to nowhere": put(lambda path: path.symlink_to("nowhere")),
    "a pipe": put(os.mkfifo),
    "a pickle": lambda path: path.write_bytes(pickle.dumps({"weights": [1.0]})),
}


@st.composite
def spoilt_files(draw: st.DrawFn, root: Path, names: list[str], rough: bool = True) -> Mutation:
    """One of the files damaged, gone, swapped for another of them, or something that is no file."""
    name = draw(st.sampled_from(names))
    kind = draw(st.sampled_from(["damage"] * 8 + list(NO_FILE) + ["swap"] * (len(names) > 1)))
    if kind == "damage":
        how, change = draw(damage((root / name).stat().st_size, rough))
        return Mutation(
            f"{name}: {how}",
            lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes())),
        )
    if kind == "swap":
        other = draw(st.sampled_from([one for one in names if one != name]))
        return Mutation(
            f"{name}: the content of {other}",
            lambda folder: shutil.copy(root / other, folder / name),
        )
    return Mutation(f"{name}: {kind}", lambda folder: NO_FILE[kind](folder / name))


def written(name: str, how: str, text: str | bytes) -> Mutation:
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return Mutation(f"{name}: {how}", lambda folder: (folder / name).write_bytes(data))


@st.composite
def specs(draw: st.DrawFn, root: Path, name: str, fields: dict[str, Any]) -> Mutation:
    """Draw a spec with another value or key somewhere, or its file damaged."""
    if draw(st.integers(0, 3)) == 0:
        return draw(spoilt_files(root, [name]))
    how, tree = draw(trees(fields))
    return written(
        name, how, "".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in tree.items())
    )


@st.composite
def trials(draw: st.DrawFn, root: Path, name: str, fields: dict[str, Any]) -> Mutation:
    """Draw a trial's JSON with something that is surely no number of epochs somewhere.

    A valid trial would run.
    """
    if draw(st.integers(0, 3)) == 0:
        return draw(spoilt_files(root, [name]))
    wrong = st.sampled_from(
        [
            None,
            -1,
            math.nan,
            math.inf,
            "x",
            "\ud800",
            [None],
            {"x": 1},
            10**400,
            "1" * 5000,
            -(10**12),
        ]
    )
    how, tree = draw(trees(fields, wrong))
    return written(name, how, json.dumps(tree))


@st.composite
def task_folders(draw: st.DrawFn, root: Path, task: str) -> Mutation:
    """Draw a task with a file damaged, or a line of one that is not what it should be."""
    splits = [f"{task}/{split}.jsonl" for split in ("train", "test", "validation", "near")]
    if draw(st.integers(0, 2)) == 0:
        return draw(spoilt_files(root, [*splits, f"{task}/task.toml"]))
    name = draw(st.sampled_from(splits))
    lines = (root / name).read_text().splitlines()
    at = draw(st.integers(0, len(lines) - 1))
    item = json.loads(lines[at])
    others = ["no table", "half", "twice", "answer", "choices", "letter", "long", "deep", "number"]
    kind = draw(st.sampled_from(["field"] * 8 + others))
    how, line = kind, ""
    if kind == "field":
        how, tree = draw(trees(item))
        line = json.dumps(tree)
    elif kind == "no table":
        line = json.dumps(draw(loose))
    elif kind == "half":
        line = lines[at][: draw(st.integers(1, len(lines[at]) - 1))]
    elif kind == "twice":
        line = f"{lines[at]}\n{lines[at]}"
    elif kind == "answer":
        line = json.dumps(item | {"answer": draw(st.integers(-3, 10))})
    elif kind == "choices":
        line = json.dumps(
            item
            | {"choices": [str(n) for n in range(draw(st.sampled_from([1, 2, 26, 27, 10_000])))]}
        )
    elif kind == "letter":
        line = json.dumps(item | {"question": "\ud800"})
    elif kind == "long":
        line = json.dumps(item | {"passage": "word " * draw(st.sampled_from([10, 1_000_000]))})
    elif kind == "deep":
        line = "[" * 100_000
    elif kind == "number":
        line = "9" * 5000
    return written(
        name, f"line {at + 1}: {how}", "\n".join([*lines[:at], line, *lines[at + 1 :]]) + "\n"
    )


def safetensors_of(header: dict[str, Any], data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@st.composite
def json_fields(draw: st.DrawFn, root: Path, name: str) -> Mutation:
    """Draw a file of JSON with another value or key somewhere."""
    fields = json.loads((root / name).read_text())
    if "model" in fields:
        # Of a vocabulary's tokens, a few: each is a place, and most of them are alike.
        fields["model"]["vocab"] = dict(list(fields["model"]["vocab"].items())[:3])
    how, tree = draw(trees(fields))
    return written(name, how, json.dumps(tree))


@st.composite
def model_folders(draw: st.DrawFn, root: Path, name: str) -> Mutation:
    """Draw a model with a file damaged or gone, another tokenizer, or wrong tensors."""
    files = ("model.safetensors", "tokenizer.json", "tokenizer_config.json")
    weights = f"{name}/model.safetensors"
    kind = draw(st.sampled_from(["files", "tokenizer.json", "header", "tensors", "tensors"]))
    if kind == "files":
        return draw(spoilt_files(root, [f"{name}/{file}" for file in files]))
    if kind == "tokenizer.json":
        return draw(json_fields(root, f"{name}/{kind}"))
    whole = (root / weights).read_bytes()
    (size,) = struct.unpack("<Q", whole[:8])
    header, data = json.loads(whole[8 : 8 + size]), whole[8 + size :]
    if kind == "header":
        how, tree = draw(trees(header))
        return written(weights, how, safetensors_of(tree, data))
    tensor = draw(st.sampled_from([key for key in header if key != "__metadata__"]))
    shape, (start, stop) = header[tensor]["shape"], header[tensor]["data_offsets"]
    nan = struct.pack("<f", math.nan)
    ways = {
        "turned": ({**header, tensor: header[tensor] | {"shape": shape[::-1]}}, data),
        "flat": ({**header, tensor: header[tensor] | {"shape": [math.prod(shape)]}}, data),
        "whole numbers": ({**header, tensor: header[tensor] | {"dtype": "I32"}}, data),
        "another name": (
            {(f"{key}x" if key == tensor else key): entry for key, entry in header.items()},
            data,
        ),
        "not finite": (header, data[:start] + nan * ((stop - start) // 4) + data[stop:]),
        "half precision": (
            {**header, tensor: header[tensor] | {"dtype": "F16", "shape": [*shape, 2]}},
            data,
        ),
    }
    how = draw(st.sampled_from(sorted(ways)))
    return written(weights, f"{tensor}: {how}", safetensors_of(*ways[how]))


@st.composite
def entries(draw: st.DrawFn, root: Path, names: list[str]) -> Mutation:
    """One of the files of the store damaged or gone; or its entry holds what is another's."""
    if draw(st.integers(0, 7)):
        return draw(spoilt_files(root, names, rough=False))
    entry = Path(draw(st.sampled_from(names))).parent
    others = sorted(
        str(path.parent.relative_to(root)) for path in root.glob(f"{entry.parent}/*/sums.json")
    )
    other = draw(st.sampled_from([one for one in others if one != str(entry)]))

    def swap(folder: Path) -> None:
        shutil.rmtree(folder / entry)
        shutil.copytree(root / other, folder / entry)

    return Mutation(f"{entry} holds what is {other}'s", swap)
