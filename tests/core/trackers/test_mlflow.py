"""The tracker mlflow, on a database file of its own; read back by MLflow."""

import shutil

import pytest
import yaml
from PIL import Image

from diffusability.core.errors import TrainingError
from diffusability.core.specs.build_context import BuildContext
from diffusability.core.trackers.specs import MLflowSpec

mlflow = pytest.importorskip("mlflow")
#: What MLflow itself calls of SQLAlchemy and others.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
CONFIG = {"seed": 0, "objective": {"kind": "reconstruction", "terms": [{"kind": "kl", "weight": 0.1}]}, "shape": [3, 4]}


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A database whose tables are made once."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(tmp_path, monkeypatch, database):
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def tracked(uri, directory, **fields):
    directory.mkdir(exist_ok=True)
    tracker = MLflowSpec(tracking_uri=uri, **fields).build(BuildContext())
    tracker.start("pretrain", directory, CONFIG)
    return tracker


def test_a_stage_keeps_one_run_with_its_metrics_parameters_and_images(uri, tmp_path):
    """Two starts in one folder, as when a stage resumes; another folder has another run."""
    for first in (1, 3):
        tracker = tracked(uri, tmp_path / "a", tags={"team": "vae"})
        for step in (first, first + 1):
            tracker.log(step, {"step": step, "loss": step / 2, "eval/fid@50": 2.0 * step})
        Image.new("RGB", (6, 4), (255, 0, 128)).save(tmp_path / "grid.png")
        tracker.log_image(first, "samples", tmp_path / "grid.png")
        tracker.finish()
    tracked(uri, tmp_path / "b").finish()
    client = mlflow.MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("diffusability").experiment_id])
    assert len(runs) == 2
    run_id = (tmp_path / "a/mlflow-run-id.txt").read_text().strip()
    run = client.get_run(run_id)
    history = [(metric.step, metric.value) for metric in client.get_metric_history(run_id, "loss")]
    assert sorted(history) == [(1, 0.5), (2, 1.0), (3, 1.5), (4, 2.0)]
    assert run.data.metrics["eval/fid_50"] == 8.0
    assert run.info.run_name == "pretrain"
    assert run.info.status == "FINISHED"
    assert run.data.tags["team"] == "vae"
    assert run.data.params == {
        "seed": "0",
        "objective.kind": "reconstruction",
        "objective.terms.0.kind": "kl",
        "objective.terms.0.weight": "0.1",
        "shape": "[3, 4]",
    }
    assert yaml.safe_load(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/resolved.yaml")) == CONFIG
    images = [entry.path for entry in client.list_artifacts(run_id, "images")]
    assert sum("samples" in path and path.endswith(".png") for path in images) == 2


def test_a_run_that_is_gone_and_a_store_that_cannot_be_opened_are_errors(uri, tmp_path):
    """Before the first step, with what to change."""
    tracked(uri, tmp_path / "a").finish()
    (tmp_path / "a/mlflow-run-id.txt").write_text("0" * 32)
    with pytest.raises(TrainingError, match=r"mlflow.*could not start.*remove .*mlflow-run-id.txt"):
        tracked(uri, tmp_path / "a")
    with pytest.raises(TrainingError, match=r"mlflow.*could not start.*tracking_uri"):
        tracked("nonsense://x", tmp_path / "b")


def test_what_the_server_does_not_take_is_reported_and_does_not_stop_the_training(uri, tmp_path, capsys):
    """A run that somebody deleted while it was logged to."""
    tracker = tracked(uri, tmp_path / "a")
    mlflow.MlflowClient(tracking_uri=uri).delete_run((tmp_path / "a/mlflow-run-id.txt").read_text().strip())
    tracker.log(7, {"loss": 1.0})
    tracker.finish()
    assert "did not take step 7" in capsys.readouterr().err
