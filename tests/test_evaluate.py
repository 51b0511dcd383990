"""stages.evaluate: its params, its outputs, and the same bytes again."""

import json
import re
from pathlib import Path

import pytest
import yaml

from stages import evaluate
from stages.lib.classifiers import build_classifier
from stages.lib.gan_networks import build_generator
from stages.lib.generator_report import second_name
from stages.lib.network_files import save_network
from stages.lib.params import load_params
from tests.conftest import ROOT, tiny_ingest


def test_the_classifier_is_registered_with_what_the_stage_has_written_for_it(project):
    classes = Path("data/ingest/classes.json")
    assert evaluate.classifier_files() == [classes]
    Path("data/evaluate").mkdir(parents=True)
    Path("data/evaluate/serving.npz").write_bytes(b"")
    assert evaluate.classifier_files() == [classes, Path("data/evaluate/serving.npz")]


@pytest.mark.parametrize(("accepted", "neighbours"), [(0.5, 1), (0.999, 1000)])
def test_the_ends_of_what_the_params_may_be(accepted, neighbours):
    params = load_params(evaluate.EvaluateParams, "evaluate", ROOT / "params.yaml").model_dump()
    taken = evaluate.EvaluateParams(**params | {"accepted": accepted, "neighbours": neighbours})
    assert (taken.accepted, taken.neighbours) == (accepted, neighbours)


def test_the_stage_writes_what_dvc_yaml_lists(project):
    tiny_ingest(project)
    for path in (evaluate.REFERENCE, evaluate.CNN, evaluate.GAN):
        path.parent.mkdir(parents=True)
    for path in (evaluate.REFERENCE, evaluate.SECOND):
        save_network(build_classifier("compact", (12, 12, 1), 3, 4), path)
    save_network(build_classifier("article", (12, 12, 1), 3, 4), evaluate.CNN)
    save_network(build_generator("article", (12, 12, 1), 3, 4, 8, True), evaluate.GAN)
    small = {"images": 12, "kid_subsets": 2, "kid_subset_size": 10, "cas_images": 20, "cas_steps": 2, "label_images": 0}
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    params["evaluate"] |= small | {"resamples": 100, "outlier_images": 20, "class_images": 2}
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    for name in ("serve_classifier.py", "serve_generator.py"):
        Path("stages/lib").mkdir(parents=True, exist_ok=True)
        (Path("stages/lib") / name).write_text((ROOT / "stages/lib" / name).read_text())
    evaluate.main()
    listed = re.findall(r"- data/evaluate/([\w.]+)", (ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    assert {path.name for path in evaluate.OUTPUT.iterdir()} == set(listed)
    metrics = json.loads((evaluate.OUTPUT / "metrics.json").read_text())
    assert {"accuracy", "accuracy_low", "accuracy_high", "macro_f1", "nll", "ece"} <= metrics["cnn"].keys()
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
    of_both_rulers = {"fd", "fd_floor", "kid", "kid_low", "kid_high", "precision", "recall", "label_accuracy"}
    of_pixels_too = {"memorisation_ratio", "near_copies"}
    further = {"kid_low", "kid_high", "fd_infinity", "fd_infinity_floor", "density", "coverage", "coverage_expected"}
    by_class = {"fd_class_mean", "fd_class_floor", "fd_classes"}
    of_both_rulers |= {"fd_infinity", "fd_infinity_floor", "density", "coverage", "fd_class_mean", "fd_class_floor"}
    second = {second_name(name) for name in of_both_rulers | of_pixels_too | {"label_accuracy_real"}}
    pixels = {f"{name}_pixels" for name in of_pixels_too}
    assert metrics["gan"].keys() == always | further | by_class | of_pixels_too | pixels | second
    assert {"fd_second", "kid_second_low"} < second
