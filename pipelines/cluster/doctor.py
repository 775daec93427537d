"""Checks of a cluster, all of them, each said: `forget cluster doctor`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from forget.errors import BadInput
from pipelines.cluster.kubectl import Cluster
from pipelines.cluster.needs import NEEDS, check_operator


def checks(
    cluster: Cluster, objects: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, str | None]]:
    """Check a cluster for the objects that would be applied.

    Yields:
        What was looked at; None where all is well, or else a sentence with the cure.

    Raises:
        BadInput: the cluster does not answer, or has no KubeRay: nothing else can be told.
    """
    check_operator(cluster)
    yield "KubeRay", None
    for what, check in NEEDS.items():
        try:
            check(cluster, objects)
        except BadInput as error:
            yield what, str(error)
        else:
            yield what, None
