"""Folders that the user may not write are known before anything is computed."""

from pathlib import Path

import pytest
from conftest import Unprivileged

from forget.storage.folders import unwritable
from forget.storage.store import Store


@pytest.mark.parametrize(
    ("closed", "asked", "found"),
    [
        ("", "own", None),
        ("", "own/new/deeper", None),
        ("own", "own", "own"),
        ("own", "own/new/deeper", "own"),
        ("own/others", "own", "own/others"),
        ("own/page.html", "own", "own/page.html"),
        ("own/page.html", "own/page.html", "own/page.html"),
        ("own/others/deep", "own", None),
    ],
)
def test_what_cannot_be_written_is_found(
    closed: str, asked: str, found: str | None, tmp_path: Path, unprivileged: Unprivileged
) -> None:
    (tmp_path / "own" / "others" / "deep").mkdir(parents=True)
    (tmp_path / "own" / "page.html").touch()
    if closed:
        (tmp_path / closed).chmod(0o555)
    expected = tmp_path / found if found else None
    assert unprivileged(lambda: unwritable(tmp_path / asked)) == expected


def test_a_store_that_may_only_be_read_says_so(tmp_path: Path, unprivileged: Unprivileged) -> None:
    assert Store(tmp_path / "store").read_only() is None
    tmp_path.chmod(0o555)
    said = unprivileged(lambda: Store(tmp_path / "store").read_only())
    assert said == (
        f"the store {tmp_path}/store cannot be written, {tmp_path} may only be read: "
        "set FORGET_STORE to a folder of yours"
    )
