"""Removal of secrets from texts that are shown, logged or sent."""

from __future__ import annotations

import json
import os
import re
from urllib.parse import quote, quote_plus, unquote


def without_secrets(text: str) -> str:
    """The text without passwords: those in the environment, also as URLs write them, and those of whatever URL."""
    found = set()
    for name, value in os.environ.items():
        found |= {value} if _SECRET.search(name) else set()
        for password in _PASSWORD.findall(value):
            found |= {password, unquote(password)}
    # The longest first: another may be a part of it.
    for secret in sorted(found, key=len, reverse=True):
        if len(secret) > 3:
            for form in (
                secret,
                quote(secret, safe=""),
                quote_plus(secret),
                json.dumps(secret)[1:-1],
            ):
                text = text.replace(form, "***")
    return _ASSIGNED.sub(r"\1=***", _USER.sub("***@", text))


_SECRET = re.compile("(PASSWORD|PASSWD|TOKEN|SECRET|KEY|CONNECTION_STRING)$", re.IGNORECASE)
"""What the names of variables end in that hold one, e.g. AWS_SECRET_ACCESS_KEY, HF_TOKEN,
PGPASSWORD.
"""
_PASSWORD = re.compile(r"//[^/\s:@]*:([^/\s]+)@")
"""Of a URL."""
_USER = re.compile(r"""(?<=//)[^/\s"'<>]+@""")
"""User and password of a URL; a password that was not quoted may hold an @."""
_ASSIGNED = re.compile(r"""\b(password|passwd)=[^\s&;,"']+""", re.IGNORECASE)
"""In the query of a database's URL, and in what libpq says."""
