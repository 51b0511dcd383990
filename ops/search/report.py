"""Reports a search: a line for each trial, the best trials as a table, and a plot."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from ops.pages.terminal import aligned
from ops.search.objectives import Objective
from ops.search.trial import has_experiment
from stages.drawing.plots import COLOURS, panel_axes

NOT_A_NUMBER = "an objective is not a number"  # the failure of a trial without an error: Optuna rejects NaN
SHOWN = 5  # trials in the table of a single objective; with several, it shows the whole Pareto front
LOGARITHMIC = 4.0  # ratio of largest to smallest value from which an axis is logarithmic: pruned trials can be far off


def headline(study: optuna.Study, objectives: Sequence[Objective], trials: Sequence[FrozenTrial], total: int) -> str:
    """The objectives, and the number of trials so far."""
    aims = " and ".join(f"{objective.direction} {objective.name}" for objective in objectives)
    return f"study {study.study_name}: {aims}; {len(trials)} of {total} trials so far"


def line(trial: FrozenTrial, objectives: Sequence[Objective]) -> str:
    """The outcome of a trial."""
    seconds = trial.duration.total_seconds() if trial.duration else 0
    params = ", ".join(f"{key}={_brief(value)}" for key, value in trial.params.items())
    if trial.state == TrialState.COMPLETE:
        values = ", ".join(
            f"{objective.name} {_brief(value)}" for objective, value in zip(objectives, trial.values, strict=True)
        )
        return f"trial {trial.number}: {values} in {seconds:.0f} s ({params})"
    if trial.state == TrialState.PRUNED:
        value = trial.intermediate_values[trial.last_step or 0]
        return (
            f"trial {trial.number}: pruned at step {trial.last_step} with {objectives[0].name} {_brief(value)} "
            f"after {seconds:.0f} s ({params})"
        )
    return f"trial {trial.number}: failed ({params}): {trial.user_attrs.get('error', NOT_A_NUMBER)}"


def summary(study: optuna.Study, objectives: Sequence[Objective], commit: str) -> list[str]:
    """The best trials, and commands to use and share them."""
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    finished, pruned = states.count(TrialState.COMPLETE), states.count(TrialState.PRUNED)
    running = states.count(TrialState.RUNNING)
    lines = [f"{finished} trials finished, {pruned} pruned, {states.count(TrialState.FAIL)} failed or retried"]
    if running:
        lines.append(f"{running} still running elsewhere, or lost there: rerun the same command later to see")
    best = best_trials(study)
    if not best:
        return lines
    title = "best trials" if len(objectives) == 1 else "Pareto front (no other trial is better in every objective)"
    lines += [f"{title}:", *(f"  {row}" for row in _table(best, objectives))]
    name = best[0].user_attrs["experiment"]
    if not has_experiment(commit, name):
        host = best[0].user_attrs.get("host")
        lines.append(
            f"{name} ran on {host}: run `uv run dvc exp push origin {name}` there, "
            f"then `uv run dvc exp pull origin {name}` here"
        )
    lines += [
        f"use it:   uv run dvc exp apply {name}; then `uv run dvc repro` measures it on the test images",
        f"share it: uv run dvc exp push origin {name}",
    ]
    return lines


def best_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The SHOWN best trials, best first; with several objectives the Pareto front, sorted by the first one."""
    if len(study.directions) > 1:
        return sorted(study.best_trials, key=lambda trial: trial.values)
    sign = -1 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1
    finished = study.get_trials(states=(TrialState.COMPLETE,))
    return sorted(finished, key=lambda trial: sign * trial.values[0])[:SHOWN]


def _table(trials: Sequence[FrozenTrial], objectives: Sequence[Objective]) -> list[str]:
    names = [objective.name for objective in objectives]
    params = [key for key in trials[0].params if key not in names]
    rows = []
    for trial in trials:
        values = [*trial.values, *(trial.params[key] for key in params)]
        rows.append([*map(_brief, values), trial.user_attrs["experiment"]])
    head = [*names, *params, "experiment"]
    return aligned([head, *rows], "l" * len(head))


def _brief(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else f"{value:.4g}"
    return str(value)


# ---------------------------------------------------------------- the plot


def draw(study: optuna.Study, objectives: Sequence[Objective], path: Path) -> bool:
    """Plots each objective over the trials; two objectives also over each other. False when no trial has finished."""
    trials = study.get_trials(deepcopy=False)
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not finished:
        return False
    with panel_axes(len(objectives) + (len(objectives) == 2), path) as axes:
        for index, (axis, objective) in enumerate(zip(axes, objectives, strict=False)):
            _draw_objective(axis, trials, index, objective)
        if len(objectives) == 2:
            _draw_front(axes[-1], finished, best_trials(study), objectives)
    return True


def _draw_objective(axis: Any, trials: Sequence[FrozenTrial], index: int, objective: Objective) -> None:
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED and trial.values]
    better = min if objective.direction == "minimise" else max
    values = [trial.values[index] for trial in finished]
    best = [better(values[: count + 1]) for count in range(len(values))]
    axis.plot([t.number for t in finished], values, "o", color=COLOURS[0], markersize=4, label="finished")
    axis.step([t.number for t in finished], best, where="post", color=COLOURS[1], label="best so far")
    if pruned:
        last_values = [trial.values[index] for trial in pruned]
        axis.plot([t.number for t in pruned], last_values, "x", color="grey", markersize=5, label="pruned")
        values = values + last_values
    axis.set(xlabel="trial", ylabel=objective.name)
    _scale(axis, "y", values)
    axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axis.legend(fontsize=8)


def _draw_front(
    axis: Any, finished: Sequence[FrozenTrial], front: Sequence[FrozenTrial], objectives: Sequence[Objective]
) -> None:
    first, second = (([t.values[i] for t in finished], [t.values[i] for t in front]) for i in range(2))
    axis.plot(first[0], second[0], "o", color=COLOURS[0], markersize=4, label="finished")
    axis.plot(first[1], second[1], "o-", color=COLOURS[1], markersize=5, label="Pareto front")
    axis.set(xlabel=objectives[0].name, ylabel=objectives[1].name)
    _scale(axis, "x", first[0])
    _scale(axis, "y", second[0])
    axis.legend(fontsize=8)


def _scale(axis: Any, direction: str, values: Sequence[float]) -> None:
    """Makes the x or y axis logarithmic, with plain numbers, when the values span a large ratio."""
    from matplotlib.ticker import LogFormatter

    finite = [value for value in values if math.isfinite(value)]
    if finite and min(finite) > 0 and max(finite) > LOGARITHMIC * min(finite):
        axis.set(**{f"{direction}scale": "log"})
        ticks = axis.xaxis if direction == "x" else axis.yaxis
        ticks.set_major_formatter(LogFormatter())
        ticks.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
