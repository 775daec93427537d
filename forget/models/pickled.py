"""Hub models whose weights are pickles, read as the safetensors that the hub made of them."""

from __future__ import annotations

import functools
import logging
from pathlib import Path

from huggingface_hub import HfApi

from forget.errors import BadInput
from forget.models import vetting

log = logging.getLogger(__name__)

BOT = "SFconvertbot"
"""The hub's own account that offers pickled weights as safetensors, in a pull request."""


@functools.cache
def with_safetensors(hub_id: str, settings: Path) -> str:
    """Return the commit that has a model's weights as safetensors.

    Where a commit has pickles alone it is that of the pull request in which the hub converted the
    very same ones.

    Args:
        hub_id: the model's.
        settings: folder of what is on this machine of the commit, by which it is named.

    Raises:
        BadInput: there are pickles alone, and no such pull request.
    """
    hub, commit = HfApi(), settings.name
    if any(settings.glob("*.safetensors")):
        return commit  # fetched before, which needs no network
    try:
        names = hub.list_repo_files(hub_id, revision=commit)
        pickles = [name for name in names if name.endswith(vetting.PICKLES)]
        if not pickles or any(name.endswith(".safetensors") for name in names):
            return commit
        wanted = _checksums(hub, hub_id, pickles, commit)
        for request in hub.get_repo_discussions(hub_id):
            if request.is_pull_request and request.author == BOT and request.status == "open":
                offered = hub.list_repo_commits(hub_id, revision=request.git_reference)[0].commit_id
                if _checksums(hub, hub_id, pickles, offered) == wanted:
                    log.warning(
                        "model %s: its weights are pickles; taken are the hub's safetensors of them"
                        " (@%s)",
                        hub_id,
                        request.git_reference,
                    )
                    return offered
    # The hub's client raises errors of its own HTTP library where the hub is out of reach.
    except Exception as error:
        log.info("model %s: the hub does not list its files (%s)", hub_id, error)
        return commit  # transformers then says what this machine lacks
    raise BadInput(
        f'model "{hub_id}" has no *.safetensors, and pickles ({pickles[0]}) are not read: convert'
        f" them to safetensors, {vetting.converting(hub_id)}"
    )


def _checksums(hub: HfApi, hub_id: str, names: list[str], commit: str) -> set[tuple[str, str]]:
    """Return the SHA-256 of large files of a commit, by name; without a word of those it lacks."""
    found = hub.get_paths_info(hub_id, names, revision=commit)
    large = [(one.path, getattr(one, "lfs", None)) for one in found]
    return {(path, lfs.sha256) for path, lfs in large if lfs}
