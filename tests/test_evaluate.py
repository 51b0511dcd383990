"""stages.evaluate_cnn and stages.evaluate_gan: params, outputs, and figures."""

import json
import re
from pathlib import Path

import pytest
import yaml

from ops.project.networks import METRICS
from stages import evaluate_cnn, evaluate_gan
from stages.classifier.base.networks import build_classifier
from stages.core.params import load_params
from stages.evaluation.classifier.registration import registered_files
from stages.evaluation.generator.report import second_name
from stages.evaluation.reporting.metric import without_variant
from stages.generator.networks import build_generator
from stages.training.network_files import save_network
from tests.conftest import ROOT, tiny_ingest


def test_the_classifier_is_registered_with_what_the_stage_has_written_for_it(project):
    data = Path("data/ingest")
    assert registered_files(data) == [data / "classes.json"]
    Path("data/evaluate_cnn").mkdir(parents=True)
    Path("data/evaluate_cnn/serving.npz").write_bytes(b"")
    assert registered_files(data) == [data / "classes.json", Path("data/evaluate_cnn/serving.npz")]


@pytest.mark.parametrize(("accepted", "neighbours"), [(0.5, 1), (0.999, 1000)])
def test_the_ends_of_what_the_params_may_be(accepted, neighbours):
    params = load_params(evaluate_cnn.EvaluateCnnParams, "evaluate_cnn", ROOT / "params.yaml").model_dump()
    taken = evaluate_cnn.EvaluateCnnParams(**params | {"accepted": accepted, "neighbours": neighbours})
    assert (taken.accepted, taken.neighbours) == (accepted, neighbours)


@pytest.fixture
def evaluated(project):
    """A tiny project with networks of random weights and few steps."""
    tiny_ingest(project)
    for path in (evaluate_gan.REFERENCE, evaluate_cnn.CNN, evaluate_gan.GAN):
        path.parent.mkdir(parents=True)
    for path in (evaluate_gan.REFERENCE, evaluate_gan.SECOND):
        save_network(build_classifier("compact", (12, 12, 1), 3, 4), path)
    save_network(build_classifier("article", (12, 12, 1), 3, 4), evaluate_cnn.CNN)
    save_network(build_generator("article", (12, 12, 1), 3, 4, 8, True), evaluate_gan.GAN)
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    params["evaluate_cnn"] |= {"resamples": 100, "outlier_images": 20, "label_images": 0}
    params["evaluate_gan"] |= {"images": 12, "kid_subsets": 2, "kid_subset_size": 10, "cas_images": 20, "cas_steps": 2}
    params["evaluate_gan"] |= {"class_images": 2}
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    for network in ("classifier", "generator"):
        served = Path(f"stages/serving/{network}/model.py")
        served.parent.mkdir(parents=True)
        served.write_text((ROOT / served).read_text())
    return project


@pytest.mark.parametrize(("stage", "section"), [(evaluate_cnn, "cnn"), (evaluate_gan, "gan")])
def test_a_stage_writes_what_dvc_yaml_lists_and_the_table_has_a_row_for_each_figure(evaluated, stage, section):
    stage.main()
    listed = re.findall(rf"- data/evaluate_{section}/([\w.]+)", (ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    assert {path.name for path in stage.OUTPUT.iterdir()} == set(listed)
    metrics = json.loads((stage.OUTPUT / "metrics.json").read_text())
    assert metrics.keys() == {section}
    rows = METRICS[section]
    assert [name for name in metrics[section] if without_variant(name) not in rows] == []
    assert all(rows[without_variant(name)].split == "test" for name in metrics[section])
    if section == "cnn":
        assert {"accuracy", "accuracy_low", "accuracy_high", "macro_f1", "nll", "ece"} <= metrics["cnn"].keys()
        return
    always = {
        "fd",
        "fd_floor",
        "kid",
        "kid_error",
        "precision",
        "recall",
        "label_accuracy",
        "label_accuracy_real",
        "cas",
    }
    of_both_references = {"fd", "fd_floor", "kid", "kid_low", "kid_high", "precision", "recall", "label_accuracy"}
    of_pixels_too = {"memorisation_ratio", "near_copies"}
    further = {"kid_low", "kid_high", "fd_infinity", "fd_infinity_floor", "density", "coverage", "coverage_expected"}
    by_class = {"fd_class_mean", "fd_class_floor", "fd_classes"}
    of_both_references |= {"fd_infinity", "fd_infinity_floor", "density", "coverage", "fd_class_mean", "fd_class_floor"}
    second = {second_name(name) for name in of_both_references | of_pixels_too | {"label_accuracy_real"}}
    pixels = {f"{name}_pixels" for name in of_pixels_too}
    assert metrics["gan"].keys() == always | further | by_class | of_pixels_too | pixels | second
    assert {"fd_second", "kid_second_low"} < second
