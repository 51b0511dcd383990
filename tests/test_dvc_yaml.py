"""dvc.yaml, params.yaml, versions.yaml and .gitignore say exactly what the code needs."""

import ast
import importlib
import inspect
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.dev.dependencies import OUTPUT_NEUTRAL, SHAPING, modules_below, shortest, stage_needs
from ops.project.networks import NETWORKS
from stages.core.params import Params, load_params
from stages.running.tracking.record import stage_section
from tests.conftest import ROOT

STAGES: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
METRICS = {next(iter(metric)) for stage in STAGES.values() for metric in stage.get("metrics", [])}
OUTPUTS = {path for stage in STAGES.values() for path in stage["outs"]} | METRICS
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "stages").rglob("*.py"))
SECTIONS = {stage: stage_section(stage) for stage in STAGES}


def params_model(stage: str) -> type[Params]:
    """The Params of a stage's script."""
    module = importlib.import_module(f"stages.{stage}")
    own = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Params) and value is not Params
    ]
    assert len(own) == 1
    return own[0]


def data_paths(stage: str) -> set[str]:
    """The paths below data/ that a stage's script names, outside its docstrings."""
    nodes = ast.walk(ast.parse((ROOT / f"stages/{stage}.py").read_text()))
    constants = {str(node.value) for node in nodes if isinstance(node, ast.Constant)}
    return {text for text in constants if re.fullmatch(r"data/[\w./]+", text)}


def code_dependencies(stage: str) -> list[str]:
    return [path for path in STAGES[stage]["deps"] if not path.startswith("data/")]


@pytest.mark.parametrize("stage", STAGES)
def test_all_that_a_stage_imports_is_covered_and_a_folder_is_used_whole(stage: str) -> None:
    needs, declared = stage_needs(stage, ROOT).files, code_dependencies(stage)
    covered = {
        file for path in declared for file in (modules_below(ROOT / path, ROOT) if (ROOT / path).is_dir() else {path})
    }
    assert needs - covered == set(), "imported, and not among the dependencies"
    assert covered - needs == set(), "among the dependencies, and not imported"
    assert declared == shortest(needs, ROOT)  # folders where they can be


def test_dvc_yaml_stays_short() -> None:
    more = len(STAGES) - 8  # each further stage may bring so many lines
    assert sum(len(code_dependencies(stage)) for stage in STAGES) <= 60 + 8 * more
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 220 + 25 * more


def test_what_is_output_neutral_is_no_dependency() -> None:
    assert not any(path.startswith(OUTPUT_NEUTRAL) for stage in STAGES for path in code_dependencies(stage))


@pytest.mark.parametrize("network", NETWORKS.values(), ids=lambda network: network.section)
def test_the_table_of_networks_agrees_with_the_pipeline(network) -> None:
    assert network.file.as_posix() in STAGES[network.train_stage]["outs"]
    assert network.file.as_posix() in STAGES[network.evaluate_stage]["deps"]
    assert network.metrics.as_posix() in METRICS
    assert network.serve.as_posix() in stage_needs(network.evaluate_stage, ROOT).files


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_exactly_the_params_it_loads_and_the_packages_it_uses(stage: str) -> None:
    params, needs = STAGES[stage]["params"], stage_needs(stage, ROOT)
    assert {entry for entry in params if isinstance(entry, str)} == needs.sections == {SECTIONS[stage]}
    versions = [entry["versions.yaml"] for entry in params if isinstance(entry, dict)]
    assert len(versions) == 1
    assert sorted(versions[0]) == sorted(needs.packages)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_what_it_declares_and_writes_to_its_own_folder(stage: str) -> None:
    needs = [path for path in STAGES[stage]["deps"] if path.startswith("data/")]
    writes = [*STAGES[stage]["outs"], *(next(iter(metric)) for metric in STAGES[stage].get("metrics", []))]
    assert all(Path(path).is_relative_to(f"data/{stage}") for path in writes)
    for path in needs:
        assert path == "data/raw/${ingest.source}" or path in OUTPUTS
    for path in data_paths(stage):
        assert path == f"data/{stage}" or any(Path(need).is_relative_to(path) for need in needs), path


def test_the_pipeline_has_no_stage_without_a_section_and_no_section_without_a_stage() -> None:
    assert list(yaml.safe_load((ROOT / "params.yaml").read_text())) == list(SECTIONS.values())


@pytest.mark.parametrize("stage", STAGES)
def test_the_committed_params_are_those_of_the_stage_and_within_their_bounds(stage: str) -> None:
    model, section = params_model(stage), SECTIONS[stage]
    load_params(model, section, ROOT / "params.yaml")
    assert yaml.safe_load((ROOT / "params.yaml").read_text())[section].keys() == model.model_fields.keys()


@pytest.mark.parametrize("stage", STAGES)
def test_every_number_has_bounds_and_every_param_must_be_given(stage: str) -> None:
    for name, field in params_model(stage).model_json_schema()["properties"].items():
        kinds = [kind for kind in field.get("anyOf", [field]) if kind.get("type") in ("number", "integer")]
        for kind in kinds:
            assert {"minimum", "exclusiveMinimum"} & kind.keys() or "const" in kind or "enum" in kind, name
        assert "default" not in field, name


def test_every_value_in_params_yaml_is_explained() -> None:
    lines = (ROOT / "params.yaml").read_text().splitlines()
    values = [line for line in lines if re.match(r"  \w", line)]
    assert values
    assert [line for line in values if not re.search(r"\s# \w", line)] == []


def test_versions_yaml_holds_the_versions_of_requirements_lock() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    locked = dict(re.findall(r"^([\w.-]+)==([^ ;\\]+)", lock, re.MULTILINE))
    versions = yaml.safe_load((ROOT / "versions.yaml").read_text())
    assert versions == {name: locked[name] for name in SHAPING.values()}
    assert "://" not in lock


def test_packages_hold_no_code_of_their_own() -> None:
    for path in ROOT.glob("stages/**/__init__.py"):
        assert path.read_text() == ""


def test_only_tracking_and_the_served_models_import_mlflow() -> None:
    importing = {m for m in MODULES if re.search(r"^\s*(import|from) mlflow\b", (ROOT / m).read_text(), re.MULTILINE)}
    served = {network.serve.as_posix() for network in NETWORKS.values()}
    assert {m for m in importing - served if not m.startswith("stages/running/tracking/")} == set()
    assert served <= importing


@pytest.mark.parametrize("path", sorted(OUTPUTS))
def test_git_ignores_outputs_and_keeps_metrics_so_that_dvc_need_not_edit_a_gitignore(path: str) -> None:
    asked = path if Path(path).suffix else f"{path}/"
    ignored = subprocess.run(["git", "check-ignore", "--quiet", "--no-index", asked], cwd=ROOT).returncode == 0
    assert ignored is (path not in METRICS)


@pytest.mark.parametrize("path", ["mlflow.db", "mlartifacts/", ".visionloop/", "data/.ingest.partial/", "uv.lock"])
def test_git_ignores_what_running_leaves(path: str) -> None:
    assert subprocess.run(["git", "check-ignore", "--quiet", "--no-index", path], cwd=ROOT).returncode == 0


def test_metrics_are_in_git_and_not_in_the_cache() -> None:
    for stage in STAGES.values():
        for metric in stage.get("metrics", []):
            assert metric[next(iter(metric))] == {"cache": False}
