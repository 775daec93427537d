"""The registered model of a base model and a task: its versions, its aliases, and the way back.

There is a version for each trial that kept its weights, which controls do not.
"""

from __future__ import annotations

import dataclasses
import filecmp
import importlib.metadata
import json
import logging
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import mlflow.transformers
from filelock import FileLock
from mlflow.entities import LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.models import Model, ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, Schema
from mlflow.utils.file_utils import local_file_uri_to_path

from forget import tasks
from forget.analyses.headline import headline
from forget.errors import BadInput, nearest
from forget.models.vetting import check_folder
from forget.results.estimates import metric_name
from forget.results.outcome import Outcome
from forget.settings.trial import Trial
from forget.storage.store import Store
from forget.tracking import notes
from forget.tracking.card import model_card
from forget.tracking.connection import (
    connect,
    default_server,
    reaching,
    tracking_uri,
    unless_it_exists,
)
from forget.tracking.study import Study

if TYPE_CHECKING:
    from forget.models.language_model import LanguageModel


log = logging.getLogger(__name__)

TAGGED = ("learned", "forgotten_trained", "forgotten", "forget_ratio", "flipped_forget_ratio")
"""Headline numbers that are tags of a version, rounded to be read."""

ALIASES = {"strongest", "weakest"}
"""Names of the versions with the lowest and the highest test accuracy after forgetting."""


def load_forgotten(
    name_or_uri: str, task: str | None = None, alias: str = "strongest"
) -> LanguageModel:
    """Load a model that forgot.

    Args:
        name_or_uri: the base model, if a task is given; else a registered name,
            "models:/<name>@<alias>" or "models:/<name>/<version>".
        task: that was forgotten.
        alias: of the version, where `name_or_uri` names none.

    Raises:
        BadInput: no such model, alias or version is registered.
        Unreachable: the server is away.
    """
    # torch takes seconds to import, and most of this room does without.
    from forget.models.loading import load

    if task and Path(name_or_uri).expanduser().is_dir():
        # As a spec's folder is named once it is read.
        name_or_uri = os.path.abspath(Path(name_or_uri).expanduser())
    asked = registered_name(name_or_uri, task) if task else name_or_uri
    uri = tracking_uri()
    client = connect(uri)
    with reaching(uri):
        name, version = _found(client, asked, alias)
        # In a folder with an older mlruns/, MLflow's own choice would be that.
        with default_server(uri), tempfile.TemporaryDirectory() as scratch:
            folder = Path(
                mlflow.artifacts.download_artifacts(
                    f"models:/{name}/{version}", dst_path=scratch, tracking_uri=uri
                )
            )
            # Models that were logged before had their tokenizer in components/ alone.
            shutil.copytree(
                folder / "components" / "tokenizer", folder / "model", dirs_exist_ok=True
            )
            return dataclasses.replace(load(folder / "model"), name=f"{name}/{version}")


def forgotten_trial(name_or_uri: str) -> tuple[Outcome, str]:
    """Return what the trial of a registered model left, and "<name>/<version>" of the model.

    Args:
        name_or_uri: as of `load_forgotten`.

    Raises:
        BadInput: no such model, alias or version is registered, or its trial's files are gone.
        Unreachable: the server is away.
    """
    uri = tracking_uri()
    client = connect(uri)
    with reaching(uri):
        name, version = _found(client, name_or_uri, "strongest")
        found = _version(client, name, version)
        run_id = found.tags.get("forget.run", "") if found else ""
        files = {file.path for file in client.list_artifacts(run_id)} if run_id else set()
        if "outcome.json" not in files:
            raise BadInput(
                f'the run of model "{name}" version {version} has no outcome.json, which says how '
                "it was made: send it again with: forget sync"
            )
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(client.download_artifacts(run_id, "outcome.json", scratch))
            outcome = Outcome.model_validate_json(path.read_text(encoding="utf-8"))
    return outcome, f"{name}/{version}"


def _found(client: MlflowClient, asked: str, alias: str) -> tuple[str, str]:
    """Return name and version of a registered model.

    Args:
        client: of the server.
        asked: its name, or a URI with an alias or a version.
        alias: of the version, where it names none.

    Raises:
        BadInput: there is none.
    """
    name, _, version = asked.removeprefix("models:/").partition("/")
    name, _, at = name.partition("@")
    registered = _registered(client, name)
    if registered is None:
        models = [model.name for model in client.search_registered_models(max_results=1000)]
        known = nearest(name, models) if models else "; none is registered yet"
        raise BadInput(f'no registered model is named "{name}"{known}')
    if not version:
        if (at or alias) not in registered.aliases:
            hint = nearest(at or alias, registered.aliases)
            raise BadInput(f'model "{name}" has no alias "{at or alias}"{hint}')
        version = str(registered.aliases[at or alias])
    if _version(client, name, version) is None:
        numbers = sorted(
            int(found.version) for found in client.search_model_versions(f"name = '{name}'")
        )
        raise BadInput(
            f'model "{name}" has no version {version}; it has {", ".join(map(str, numbers))}'
        )
    return name, version


def registered_name(model: str, task: str) -> str:
    """Return "forgotten-<model>-<task>", without the characters that the registry refuses."""
    return "-".join(
        re.sub(r"[^\w.-]+", "-", part).strip("-") for part in ("forgotten", model, task)
    )


def registered(study: Study, outcome: Outcome) -> ModelVersion | None:
    """Return the trial's version of the registered model; None where there is none."""
    name = registered_name(outcome.trial.model, outcome.trial.task)
    # Not all versions, of which there are as many as trials.
    query = f"name = '{name}' and tags.`forget.trial` = '{outcome.id}'"
    return next(iter(study.client.search_model_versions(query)), None)


def model_of(version: ModelVersion, run_id: str) -> str:
    """Return the id of a version's logged model; empty where another run of the trial made it."""
    own = version.tags["forget.run"] == run_id
    return str(version.source).removeprefix("models:/") if own else ""


def register(study: Study, outcome: Outcome, run_id: str, store: Store) -> tuple[str | None, str]:
    """Make the trial's version of the registered model, unless it is there.

    Returns:
        "<name>/<version>", None without weights; and the id of its model (`model_of`).
    """
    trial = outcome.trial
    name = registered_name(trial.model, trial.task)
    client = study.client
    found = registered(study, outcome)
    with default_server(study.uri):
        if found:
            model_id = model_of(found, run_id)
        else:
            model_id = _logged_model(study, outcome, run_id, store)
            if not model_id:
                return None, ""
        # One at a time, so that the aliases are chosen among all versions.
        with FileLock(store.root / "registry.lock"):
            model = _registered(client, name)
            if not found:
                if model is None:
                    with unless_it_exists():
                        client.create_registered_model(name, description=_about(trial, name))
                accuracy = outcome.measures[
                    metric_name("forgotten", trial.task, "test", "accuracy")
                ]
                assert accuracy.value is not None
                numbers = headline(outcome)
                tags = {name: f"{numbers[name]:.3f}" for name in TAGGED if name in numbers}
                tags |= {
                    "forget.trial": outcome.id,
                    "forget.run": run_id,
                    # Finer than two accuracies that differ: by it the aliases are chosen.
                    "forget.accuracy": str(round(accuracy.value, 6)),
                }
                report = notes.report_page(study.experiment_id, study.run_id)
                run = f"#/experiments/{study.experiment_id}/runs/{run_id}"
                links = f"[Report]({report}) of the sweep, [run]({run}) of the trial."
                card = f"{model_card(outcome)}\n{links}\n"
                source = f"models:/{model_id}"
                found = client.create_model_version(
                    name, source, run_id, tags, description=card, model_id=model_id
                )
                link = json.dumps([{"name": name, "version": str(found.version)}])
                client.set_logged_model_tags(model_id, {"mlflow.modelVersions": link})
            _set_aliases(client, found, model.aliases if model else {})
    return f"{name}/{found.version}", model_id


def _about(trial: Trial, name: str) -> str:
    """Say what a registered model is, and how it is loaded."""
    return (
        f"`{trial.model}` made to forget the task `{trial.task}`, a version for each trial. "
        "`@strongest` has the lowest held-out accuracy after forgetting, `@weakest` the highest. "
        f'In Python: `forget.load_forgotten("models:/{name}@strongest")`.'
    )


def _set_aliases(client: MlflowClient, added: ModelVersion, aliases: Mapping[str, str]) -> None:
    """Give @strongest and @weakest to the versions they belong to after one was added.

    Args:
        aliases: numbers of versions by alias, before.
    """
    now = {alias: str(aliases.get(alias, "")) for alias in ("strongest", "weakest")}
    ends = [version for number in now.values() if (version := _version(client, added.name, number))]
    known = [added, *ends]
    if len(ends) < len(now) or any("forget.accuracy" not in version.tags for version in known):
        # A version that is deleted takes its alias along. Otherwise not all are read, of which
        # there are as many as trials.
        known = [
            v
            for v in client.search_model_versions(f"name = '{added.name}'")
            if "forget.accuracy" in v.tags
        ]
    known.sort(key=lambda version: (float(version.tags["forget.accuracy"]), int(version.version)))
    for alias, version in zip(now, (known[0], known[-1]), strict=True):
        # Asked to set one that is set, MLflow would read every version all the same.
        if str(version.version) != now[alias]:
            client.set_registered_model_alias(added.name, alias, version.version)


def registered_trials(study: Study, name: str) -> set[str]:
    """Return the ids of the trials that have a version of a registered model.

    Where the model has versions but lacks an alias, that is given again.
    """
    client = study.client
    versions: list[ModelVersion] = []
    page = None
    while page is None or page.token:
        page = client.search_model_versions(
            f"name = '{name}'", page_token=page.token if page else None
        )
        versions += [version for version in page if "forget.trial" in version.tags]
    model = _registered(client, name)
    if versions and model and not model.aliases.keys() >= ALIASES:
        _set_aliases(client, versions[0], model.aliases)
    return {version.tags["forget.trial"] for version in versions}


def _logged_model(study: Study, outcome: Outcome, run_id: str, store: Store) -> str:
    """Log the run's model, unless it is there, and return its id; empty without weights.

    An upload that was interrupted is thrown away and made anew.
    """
    for model in study.client.search_logged_models(
        [study.experiment_id], f"source_run_id = '{run_id}'"
    ):
        if model.status == LoggedModelStatus.READY:
            return model.model_id
        study.client.delete_logged_model(model.model_id)
    weights = store.fetch_folder(f"trials/{outcome.id}/model")
    if weights is None:
        if outcome.trial.keeps:
            log.warning(
                "trial %s: its model is not in %s, so this tracking server gets none "
                "(with keep = false, a model leaves the store once it is registered)",
                outcome.id,
                store.where,
            )
        return ""
    check_folder(weights)  # It may have come from a store that others write to.
    return _logged_anew(study, outcome, run_id, weights)


def _logged_anew(study: Study, outcome: Outcome, run_id: str, weights: Path) -> str:
    """Log a folder of weights as the run's model, and return its id."""
    from huggingface_hub import ModelCard, ModelCardData
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made = study.client.create_logged_model(
        study.experiment_id, "model", run_id, params=study.client.get_run(run_id).data.params
    )
    tokenizer = AutoTokenizer.from_pretrained(weights, trust_remote_code=False)
    with tempfile.TemporaryDirectory() as scratch:
        # MLflow keeps the tokenizer in components/ alone; whoever opens the model's folder by
        # transformers, as lm-evaluation-harness does, looks for it beside the weights.
        tokenizer.save_pretrained(Path(scratch) / "model")
        study.client.log_model_artifacts(made.model_id, scratch)
    data = ModelCardData(
        license="other", pipeline_tag="text-generation", tags=["forgetting", outcome.trial.task]
    )
    # Model.log rather than mlflow.transformers.log_model, which would load and run the model once
    # more to check the example. The flavour takes a folder, too, but stumbles there over
    # transformers 5.
    Model.log(
        None,
        mlflow.transformers,
        run_id=run_id,
        model_id=made.model_id,
        transformers_model={
            "model": AutoModelForCausalLM.from_pretrained(
                weights, dtype="bfloat16", use_safetensors=True, trust_remote_code=False
            ),
            "tokenizer": tokenizer,
        },
        task="text-generation",
        validate_serving_input=False,
        # Guessing them imports torchvision, which nobody needs here; "+cpu" and the like name no
        # public package.
        pip_requirements=[
            f"{name}=={importlib.metadata.version(name).partition('+')[0]}"
            for name in ("torch", "transformers", "accelerate")
        ],
        signature=ModelSignature(Schema([ColSpec("string")]), Schema([ColSpec("string")])),
        input_example=_question(outcome.trial),
        model_card=ModelCard(f"---\n{data.to_yaml()}\n---\n{model_card(outcome)}"),
    )
    _share_disk(weights, made.artifact_location)
    return made.model_id


def _question(trial: Trial) -> str | None:
    """Return a held-out question of the task; None where its data cannot be had here."""
    try:
        (example,) = tasks.load(
            trial.task, "test", 1, folders=trial.folders, template=trial.template
        )
    except BadInput:
        return None
    return example.prompt


def _share_disk(weights: Path, location: str) -> None:
    """Have weights that lie on a disk twice, here and beside a local database, share their place.

    Args:
        weights: the model's folder in the store.
        location: of the logged model's files, by MLflow's URI.
    """
    if not location.startswith("file:"):
        return
    logged = Path(local_file_uri_to_path(location)) / "model"
    for path in weights.glob("*.safetensors"):
        twin = logged / path.name
        # Elsewhere MLflow cuts a large model into other files.
        if twin.exists() and filecmp.cmp(path, twin, shallow=False):
            draft = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
            # Another disk, or one that knows no links, keeps two copies.
            with suppress(OSError):
                os.link(twin, draft)
                draft.replace(path)
            draft.unlink(missing_ok=True)


def _registered(client: MlflowClient, name: str) -> RegisteredModel | None:
    """Return the model with its aliases; None where there is none.

    `get_registered_model` would read every version it has.
    """
    # A filter has no way to write an apostrophe, nor has a model's name one.
    if "'" in name:
        return None
    return next(iter(client.search_registered_models(f"name = '{name}'")), None)


def _version(client: MlflowClient, name: str, number: str) -> ModelVersion | None:
    """Return a version of a model; None where there is none.

    A server with users answers 403 to `get_model_version` of one that is not there.
    """
    if not number.isdecimal():
        return None
    query = f"name = '{name}' and version_number = {number}"
    return next(iter(client.search_model_versions(query)), None)
