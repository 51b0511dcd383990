"""ops.search.lr_finder: the suggestion, and that data/ stays as it is."""

import os
import subprocess
import sys

import numpy as np
import pytest

from ops.search import lr_finder
from ops.search.rate_range_test import HIGHEST, LOWEST, rate_at, smooth, suggest
from stages.core.dataset import digest
from stages.running.terminal import UserError
from tests.conftest import ROOT, tiny_ingest


def test_rates_grow_by_a_constant_factor_from_the_lowest_to_the_highest():
    rates = rate_at(np.arange(50), 50)
    assert rates[0] == pytest.approx(LOWEST)
    assert rates[-1] == pytest.approx(HIGHEST)
    np.testing.assert_allclose(rates[1:] / rates[:-1], (HIGHEST / LOWEST) ** (1 / 49))


def test_a_constant_loss_is_smooth_from_the_start_and_noise_is_averaged_out():
    np.testing.assert_allclose(smooth(np.full(30, 2.5)), 2.5)
    losses = np.random.default_rng(0).normal(1.0, 0.3, 2000)
    assert smooth(losses)[200:].std() == pytest.approx(0.3 * np.sqrt(0.05 / 1.95), rel=0.2)  # of a running mean
    assert smooth(np.array([3.0, 1.0]))[1] == pytest.approx((0.95 * 3 + 1) / 1.95)


def test_the_suggestion_is_a_tenth_of_the_rate_of_the_lowest_loss():
    rates = rate_at(np.arange(301), 301)
    for lowest in (1e-3, 0.05, 2.0):
        assert suggest(rates, np.log10(rates / lowest) ** 2 + 1) == pytest.approx(lowest / 10, rel=0.06)


@pytest.mark.parametrize("losses", [np.full(50, 2.0), np.linspace(2, 3, 50), np.linspace(2, 1.95, 50)])
def test_a_loss_that_never_falls_suggests_nothing(losses):
    with pytest.raises(UserError, match="the loss fell at no rate from 1e-05 to 1e"):
        suggest(rate_at(np.arange(50), 50), losses)


def test_it_writes_a_plot_prints_a_suggestion_and_leaves_the_data_alone(project, capsys, monkeypatch):
    folder = tiny_ingest(project, train=40)
    view = project / "data/augment/view-00"
    view.mkdir(parents=True)
    for shard in folder.glob("train-*.npy"):
        (view / shard.name).write_bytes(shard.read_bytes())
    text = (project / "params.yaml").read_text().replace("batch_size: 128", "batch_size: 16")
    (project / "params.yaml").write_text(text.replace("width: 32  ", "width: 4  "))
    before = digest(project / "data")
    monkeypatch.setattr(sys, "argv", ["lr_finder", "cnn", "--steps", "60"])
    lr_finder.main()
    said = capsys.readouterr().out
    assert "suggestion: cnn.lr=" in said
    assert 1e-4 < float(said.split("cnn.lr=")[1].split(",")[0]) < 1
    plot = project / ".visionloop/lr_finder/cnn.png"
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert str(plot) in said
    assert digest(project / "data") == before
    assert sorted(path.name for path in project.iterdir()) == [".visionloop", "data", "params.yaml"]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["cnn"], 1, "error: data/ingest not found: run `dvc repro`"),
        (["gan"], 2, "invalid choice: 'gan'"),
        (["cnn", "--steps", "3"], 2, "--steps 3: expected 20 or more"),
    ],
)
def test_what_it_cannot_do_is_one_sentence(project, arguments, code, sentence):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "ops", "lr-finder", *arguments]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == code
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
