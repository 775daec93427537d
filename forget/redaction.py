"""Removal of secrets from texts that are shown, logged or sent."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus, unquote

HIDDEN = "***"


def without_secrets(text: str) -> str:
    """Return the text without secrets: the environment's, and those that their place gives away.

    The environment's are values of variables such as HF_TOKEN and passwords of URLs, in whichever
    spelling. Places are a URL's user and password, what stands behind password= and the like, and
    headers such as Authorization. Where a slash ends digits behind a host's colon, as in
    //host:5000/a@b, they are taken for a port.
    """
    # The longest first: another may be a part of it.
    for secret in sorted(set(_of_environment()), key=len, reverse=True):
        if len(secret) > 3:
            for spelling in _spellings(secret):
                text = text.replace(spelling, HIDDEN)
    text = _USER.sub(rf"\1{HIDDEN}@", text)
    text = _QUOTED_USER.sub(rf"\1{HIDDEN}%40", text)
    text = _HEADER.sub(rf"\1{HIDDEN}", text)
    return _ASSIGNED.sub(_without_value, text)


def _without_value(found: re.Match[str]) -> str:
    """Return what _ASSIGNED has found with its value hidden, in the value's own quotes."""
    around = found["quote"] or ""
    return f"{found['name']}{around}{HIDDEN}{around}"


def _of_environment() -> Iterator[str]:
    for name, value in os.environ.items():
        if _SECRET.search(name):
            yield value
        for url in _URLS.split(value):
            for password in _PASSWORD.findall(url):
                yield password
                yield unquote(password)


def _spellings(secret: str) -> set[str]:
    """Return the secret as texts, URLs, JSON and Python write it."""
    quoted = {quote(secret), quote(secret, safe=""), quote_plus(secret)}
    lower = {re.sub("%..", lambda code: code[0].lower(), spelling) for spelling in quoted}
    return {secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], *quoted, *lower}


_SECRET = re.compile("(PASSWORD|PASSWD|TOKEN|SECRET|KEY|CONNECTION_STRING)$", re.IGNORECASE)
"""The ends of names of variables that hold a secret, e.g. AWS_SECRET_ACCESS_KEY, PGPASSWORD."""
_URLS = re.compile(r"[\s,;]+(?=[a-z][\w+.-]*://)", re.IGNORECASE)
"""The gaps between the URLs of a list."""
_PASSWORD = re.compile(r"://[^\s/:@]*:(\S+)@")
"""The password of a URL; one that was not quoted may hold an @ or a slash."""

_PORT = r"""\d{1,5}(?:[/?#\s"'<>,;)}\]\\]|$)"""
_USER = re.compile(
    rf"""(:(?:\\?/){{2}})(?:[^\s/:@"'<>?#\[\]]*:(?!{_PORT})\S*|[^\s/:@"'<>?#\[\]]+)@"""
)
"""User and password of a URL, up to the last @; or a user alone, which may be a token."""
_QUOTED_USER = re.compile(r"""(%3A%2F%2F)[^\s&"'<>]+%40""", re.IGNORECASE)
"""Those of a URL that is itself a parameter of another."""

_NAMES = "|".join(
    (
        r"[\w.-]*(?:password|passwd|passphrase|secret(?:[_-]?access)?(?:[_-]?key)?)",
        r"[\w.-]*(?:access|account|api|private)[_-]?key",
        # Not every token is a secret: a tokenizer's pad_token is none.
        r"(?:[\w.-]*(?:access|api|auth|github|hf|hub|id|refresh|security|session|tracking)[_-]?)?token",
        r"pwd|connection[_-]?string|signature|x-amz-(?:credential|signature)|(?<=[?&])sig",
    )
)
_ASSIGNED = re.compile(
    # Text says "wrong password: ..." without giving one: before a colon, the name is in quotes.
    rf"""(?P<name>(?<![\w.-])(?:{_NAMES})(?:\s*=(?!=)\s*|\\?["']\s*[:=]\s*))"""
    r"""(?!(?:true|false|none|null)\b)"""
    r"""(?:(?P<quote>\\?["'])(?:(?!(?P=quote))(?:\\.|[^\\]))*(?P=quote)|(?:[^\s&;"']|["'](?=\w))+)""",
    re.IGNORECASE,
)
"""The value of a parameter, a setting, or a key of JSON or of a dict."""
_HEADER = re.compile(
    r"""(\b(?:(?:proxy-)?authorization|(?:set-)?cookie|x-[\w-]*(?:key|token))\\?["']?\s*:\s*\\?["']?"""
    r"""(?:(?:basic|bearer|digest|token)\s+)?|(?-i:\bBearer )(?=\S*\d))[^\s"',;\\]+""",
    re.IGNORECASE,
)
"""The value of a request's header, with or without the name of its scheme."""
