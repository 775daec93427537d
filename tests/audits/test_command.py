"""The commands on audits, from a spec to the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Forget
from mlflow.tracking import MlflowClient

from forget.settings.trial import Trial
from forget.storage.finished import Trials
from forget.storage.store import Store

SPEC = """
audits = [{{ name = "quantise", draws = 1, formats = ["nf4", "bf16"] }}]
[base]
task = "vowels"
model = "tiny"
precision = "fp32"
evaluate_on = ["upper"]
folders = ["{folder}"]
learn = {{ examples = 64, epochs = 6, lr = 1e-2 }}
forget = {{ examples = 48, epochs = 6, lr = 1e-2 }}
probe = {{ examples = 0 }}
[axes]
arm = ["random", "true"]
"""


@pytest.mark.usefixtures("cluster")
def test_a_study_is_audited_with_its_trials_and_after_them(
    forget: Forget, tmp_path: Path, database: Path, quick: Trial
) -> None:
    (tmp_path / "mlflow.db").write_bytes(database.read_bytes())
    (tmp_path / "study.toml").write_text(SPEC.format(folder=quick.folders[0]))
    code, out, error = forget("sweep", "study.toml")
    assert code == 0, error
    assert "audited  vowels arm=random, forgotten: 1 of 1 audits" in out
    store = Store(tmp_path / ".forget")
    ids = Trials(store).finished()
    (audited,) = [id for id in ids if Trials(store).audits(id)]
    before = Trials(store).audits(audited)

    code, out, error = forget("audit", "study.toml", "few_shot", "relearn", "text")
    assert code == 0, error
    assert "missing" not in out
    assert len(Trials(store).audits(audited)) == len(before) + 3
    page = (tmp_path / "report" / "study" / "report.html").read_text()
    assert "Does it come back?" in page
    assert (tmp_path / "report" / "study" / "recovery.csv").exists()

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = [one for one in client.search_experiments() if one.name == "study"]
    query = f"tags.`forget.trial` = '{audited}'"
    (run,) = client.search_runs([experiment.experiment_id], query)
    assert {"recovery_relearn", "text_bits_more"} <= run.data.metrics.keys()
    curve = client.get_metric_history(
        run.info.run_id, "forgotten.relearn.forget/vowels/test/accuracy"
    )
    assert [point.step for point in curve] == [0, 8, 40]
    (version,) = client.search_model_versions("name = 'forgotten-tiny-vowels'")
    assert "| relearn | forget/n=" in version.description

    code, out, error = forget(
        "audit", "models:/forgotten-tiny-vowels@strongest", "quantise", "text", "--task", "vowels"
    )
    assert code == 0, error
    assert "nf4" in out
    assert "bits" in out

    # An audit that cannot be had is told, and the report is written without it.
    failing = '[{ name = "relearn", sources = "held_out", n = 9999, lr = [1e-4, 1e-3] }]'
    _, _, rest = SPEC.format(folder=quick.folders[0]).partition("]\n")
    (tmp_path / "study.toml").write_text(f"audits = {failing}\n{rest}")
    code, out, error = forget("audit", "study.toml")
    assert code == 0, error
    assert "forgotten: 0 of 1 audits" in out
    assert "missing: vowels arm=random: audit relearn" in out
    assert "n = 9999 of the" in out

    code, _, error = forget("audit", "study.toml", "relern")
    assert (code, error.count("\n")) == (2, 1)
    assert 'did you mean "relearn"?' in error


def test_audits_are_listed_with_their_question_and_cost(forget: Forget) -> None:
    code, out, _ = forget("audits")
    assert code == 0
    assert "how few examples bring it back" in out
