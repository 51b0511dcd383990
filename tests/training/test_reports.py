"""stages.training.reports: the history of a training keeps the best weights, also over an interruption."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from stages.core.params import Params
from stages.training.checkpoints import Checkpoint
from stages.training.reports import History


def network(weight: float) -> Any:
    return SimpleNamespace(get_weights=lambda: [np.full(3, weight), np.full((2, 2), weight)])


def test_the_weights_of_the_lowest_score_are_kept():
    history = History()
    for at, score in enumerate((3.0, 2.0, 2.0, 2.5), start=1):
        history.add({"epoch": at, "score": score}, at, score, network(at))
    assert [row["epoch"] for row in history.rows] == [1, 2, 3, 4]
    assert (history.best_score, history.best_at) == (2.0, 2)
    np.testing.assert_array_equal(history.best_weights[0], np.full(3, 2))


def test_the_first_evaluation_is_the_best_so_far_whatever_its_score():
    history = History()
    history.add({"step": 5}, 5, np.nan, network(1))
    assert (history.best_at, len(history.best_weights)) == (5, 2)


def test_a_checkpoint_saves_its_fields_and_sets_them_again(tmp_path, monkeypatch):
    monkeypatch.setattr(Checkpoint, "folder", tmp_path)
    before, after = History(), History()
    before.add({"step": 5}, 5, 0.5, network(7))
    Checkpoint("toy", Params(), vars(before)).save([], 5, {})
    assert Checkpoint("toy", Params(), vars(after)).restore([])[0] == 5
    assert (after.rows, after.best_score, after.best_at) == ([{"step": 5}], 0.5, 5)
    for one, other in zip(before.best_weights, after.best_weights, strict=True):
        np.testing.assert_array_equal(one, other)
