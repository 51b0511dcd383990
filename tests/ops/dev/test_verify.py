"""ops.dev.verify: what it says of differences. That it proves a whole pipeline is shown in test_pipeline.py."""

import json

import numpy as np
import pytest

from ops.dev import verify
from stages.classifier.base.networks import build_classifier
from stages.training.network_files import save_network


def pair(tmp_path, name, old, new):
    """The two versions of a file, written by `old` and `new`."""
    paths = []
    for folder, write in (("recorded", old), ("new", new)):
        (tmp_path / folder).mkdir()
        paths.append(tmp_path / folder / name)
        write(paths[-1])
    return paths


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("m.json", '{"cnn": {"accuracy": 0.5}}', '{"cnn": {"accuracy": 0.75}}', "cnn.accuracy: 0.5 is now 0.75"),
        ("m.json", '{"a": 1}', '{"a":  1}', "only the layout differs"),
        ("h.csv", "epoch,loss\n1,0.5\n2,0.25\n", "epoch,loss\n1,0.5\n2,0.125\n", "line 3: 2,0.25 is now 2,0.125"),
        ("h.csv", "epoch\n1\n", "epoch\n1\n2\n", "one has more lines"),
        ("passed", "abc", "abcd", "3 bytes are now 4"),
        ("passed", "abc", "abd", "3 bytes, with other content"),
    ],
)
def test_the_first_difference_of_text(tmp_path, name, old, new, says):
    recorded, again = pair(tmp_path, name, lambda p: p.write_text(old), lambda p: p.write_text(new))
    assert verify._file_difference(recorded, again) == says


def test_the_first_difference_of_arrays(tmp_path):
    array = np.zeros((2, 3), np.uint8)
    other = array.copy()
    other[1, 2] = 1
    recorded, again = pair(tmp_path, "a.npy", lambda p: np.save(p, array), lambda p: np.save(p, other))
    assert verify._file_difference(recorded, again) == "1 of 6 values differ"


def test_the_largest_difference_of_weights(tmp_path):
    network = build_classifier("compact", (8, 8, 1), 3, 4)

    def save_moved(path):
        network.get_layer("logits").bias.assign([0.0, 0.25, 0.0])
        save_network(network, path)

    recorded, again = pair(tmp_path, "n.keras", lambda p: save_network(network, p), save_moved)
    assert verify._file_difference(recorded, again) == "largest weight difference 0.25, in logits/bias"


def test_a_recorded_file_that_is_nowhere_is_said_to_be_so(tmp_path):
    assert "not in the cache" in verify._file_difference(None, tmp_path)


@pytest.mark.parametrize(("value", "inside"), [(0.95, True), (0.93, True), (1.0, True), (0.91, False), (1.02, False)])
def test_metrics_are_held_to_the_spread_of_the_seeds_and_as_much_around_it(tmp_path, monkeypatch, value, inside):
    (tmp_path / "data/evaluate_cnn").mkdir(parents=True)
    (tmp_path / "data/evaluate_cnn/metrics.json").write_text(json.dumps({"cnn": {"accuracy": value}}))
    monkeypatch.setattr(verify, "_executed", lambda clone: ["evaluate_cnn"])
    ((stage, metric, says),) = verify.compare_metrics(tmp_path, {"evaluate_cnn:cnn.accuracy": [0.95, 0.98, 0.96]})
    assert (stage, metric) == ("evaluate_cnn", "cnn.accuracy")
    assert (says == "within") is inside
    assert inside or "five seeds gave 0.95 to 0.98" in says
