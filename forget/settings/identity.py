"""Identity of settings and data."""

from __future__ import annotations

import hashlib
import json

PROTOCOL = 4
"""Version of what a trial does: raised when a change of the code changes a trial's numbers, so that
they are computed anew.
"""


def digest(value: object) -> str:
    """16 hex digits over the JSON of `value`: the identity of settings and data everywhere."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
