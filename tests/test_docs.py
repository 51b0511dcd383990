"""README and docs hold what they promise: commands run, links lead somewhere, and tables name what the code has."""

import ast
import importlib.util
import re
import shlex
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.conftest import ROOT
from tests.test_pipeline import Project, copy_sources
from tests.test_rooms import ROOMS

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
CODE = [path for top in ("stages", "ops", "cli") for path in sorted((ROOT / top).rglob("*.py"))]

# ---------------------------------------------------------------- commands

# Commands that this test runs, in a copy of the project.
RUN_HERE = (
    "uv run visionloop predict --help",
    "uv run visionloop generate --help",
    "uv run visionloop dependencies",
    "uv run visionloop metrics --check",
    "uv run dvc dag",
    "du -sh .visionloop mlflow.db mlartifacts .dvc/cache data .venv",
    "uv run dvc gc --workspace --force",
    "uv run dvc exp remove --all-commits",
    "git restore .",
)


class Elsewhere(NamedTuple):
    """Commands, as a regular expression, that another test runs, or that none can run."""

    commands: str
    test: str = ""  # path::name of a test or fixture, which runs them with tiny data or other values
    reason: str = ""


PIPELINE, EXTENDING = "tests/test_pipeline.py", "tests/test_extending.py"
SHARED = f"{PIPELINE}::test_an_experiment_becomes_a_branch_that_others_pull_without_running_anything"
ELSEWHERE = (
    # The pipeline and experiments.
    Elsewhere(r"(pip install uv && )?uv run dvc repro", f"{PIPELINE}::loop"),
    Elsewhere(r"uv run dvc repro (evaluate_cnn|summarise)", f"{EXTENDING}::project"),
    Elsewhere(r"uv run python -m stages\.validate", f"{PIPELINE}::test_bad_data_fails_the_pipeline_and_its_run"),
    Elsewhere(r"uv run dvc exp run -S gan\.lr=2e-4", f"{PIPELINE}::gan_experiment"),
    Elsewhere(r"uv run dvc (repro|exp run) --pull.*", "tests/ops/remote/test_share.py"),
    Elsewhere(r"uv run dvc (exp run --queue .*|queue start)", "tests/test_queue.py::run_queue"),
    Elsewhere(r"uv run dvc exp show --only-changed", f"{PIPELINE}::test_experiments_can_be_compared"),
    Elsewhere(r"uv run dvc (metrics diff|plots show)", f"{PIPELINE}::test_experiments_can_be_compared"),
    Elsewhere(r"uv run dvc (exp apply NAME|push && git push .*|checkout)", SHARED),
    Elsewhere(r"git switch -c wider && .*", SHARED),
    Elsewhere(r"uv run dvc exp run -S (gan\.loss=smooth-hinge|cnn\.arch=plain)", f"{EXTENDING}::project"),
    Elsewhere(r"uv run dvc exp run -S augment\.inversion=0\.2", f"{EXTENDING}::AUGMENTATION"),
    # The commands of the project.
    Elsewhere(r"uv run visionloop predict photos .*", "tests/ops/use/test_predict.py"),
    Elsewhere(r"uv run visionloop generate --(class|grid|interpolate) .*", "tests/ops/use/test_generate.py"),
    Elsewhere(r"uv run visionloop report( --base main)?", "tests/ops/report/test_report.py"),
    Elsewhere(r"uv run visionloop promote( --dry-run| --rollback| --again)?", "tests/ops/promote/test_promote.py"),
    Elsewhere(r"uv run visionloop drift (data/raw/new|--html drift\.html)", "tests/ops/drift/test_drift.py"),
    Elsewhere(r"uv run visionloop search .* -S gan\.loss=.*", f"{EXTENDING}::SEARCH"),
    Elsewhere(r"uv run visionloop search .*", "tests/ops/search/test_search_pipeline.py"),
    Elsewhere(r"uv run visionloop lr-finder cnn", "tests/ops/search/test_lr_finder.py"),
    Elsewhere(r"uv run visionloop verify( ingest)?", PIPELINE),
    Elsewhere(r"uv run visionloop share", "tests/ops/remote/test_share.py"),
    Elsewhere(r"uv run visionloop retrain", "tests/test_workflows.py"),
    Elsewhere(r"python3 -m ops setup", "tests/ops/dev/test_setup.py"),
    Elsewhere(r"uv run visionloop metrics", f"{EXTENDING}::test_the_metric_is_measured_and_shown"),
    Elsewhere(r"uv run visionloop dependencies summarise", f"{EXTENDING}::test_the_stage_declares_what_it_imports"),
    # Pages whose commands a test runs line by line or block by block.
    Elsewhere(r"docs/upgrading\.md: .*", "tests/test_upgrading.py::commands"),
    Elsewhere(r"docs/services\.md: (?!docker|uv).*", "tests/test_services.py::commands"),
    Elsewhere(r"LAUNCH=\"srun .*|TF_CONFIG=.*", "tests/test_distribution.py"),
    Elsewhere(r"uv run dask .*|DASK_SCHEDULER_ADDRESS=\S+ uv run dvc repro", "tests/test_cluster.py"),
    # No test can run these.
    Elsewhere(r"uv run dvc exp run -S ingest\.source=.*", reason="needs downloads or the user's data, and minutes"),
    Elsewhere(r"uv run dvc exp run -S (cnn|gan)\.arch=article .*", reason="takes minutes; test_params_exist checks it"),
    Elsewhere(r"uv run pytest .*", reason="it would run itself"),
    Elsewhere(r"\.ci/run|uv run (ruff|mypy).*", reason="CI runs them: .ci/run"),
    Elsewhere(r"uv sync|pip install .*|python3 -m venv .*|\.venv-uv/bin/uv run .*", reason="downloads packages"),
    Elsewhere(r"uv run visionloop lock", reason="asks the package index; CI runs `lock --check`"),
    Elsewhere(r"uv run pre-commit install", reason="changes git's hooks"),
    Elsewhere(r"uv run mlflow ui", reason="serves a page until it is stopped"),
    Elsewhere(r"uv run mlflow gc .*", reason="needs a store with deleted runs"),
    Elsewhere(r"uv run dvc gc --all-branches .*", reason="as `dvc gc --workspace`, which runs here"),
    Elsewhere(r"(cp -r ~/pets .* && )?uv run dvc add .*|cp ~/more-cats/.*", reason="needs the user's data"),
    Elsewhere(r"git commit .*|git switch -c more-cats .*", reason="needs the user's data"),
    Elsewhere(r"uv run (--extra s3 )?dvc (remote add|push) .*", reason="needs a cloud account"),
    Elsewhere(r"gh .*", reason="needs an account on GitHub; tests/test_workflows.py runs the workflows"),
    Elsewhere(r"mlflow server --host 0\.0\.0\.0 .*", reason="needs a proxy; tests/test_services.py runs a server"),
    Elsewhere(r"export MLFLOW_TRACKING_URI=.*", reason="needs a server of that name"),
    Elsewhere(r"uv run --with dask-jobqueue .*", reason="needs a Slurm cluster, and downloads a package"),
    Elsewhere(r"LAUNCH=\"\./launch-tfjob\.sh\" .*", reason="needs a Kubernetes cluster"),
    Elsewhere(r"docker compose .*", reason="needs Docker and downloads; tests/test_services.py reads the file"),
)


def commands(text: str) -> Iterator[str]:
    """The commands in the blocks of a page, without comments; continued lines and here-documents are joined."""
    for block in re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        joined = block.replace("\\\n", " ")
        joined = re.sub(r"<<'(\w+)'\n.*?^\1$", r"<<'\1'", joined, flags=re.MULTILINE | re.DOTALL)
        for line in joined.splitlines():
            command = re.sub(r"\s+# .*$|\s{2,}#.*$", "", line)
            if command.strip():
                yield " ".join(command.split())


FOUND = [(page, command) for page, text in TEXTS.items() for command in commands(text)]


def entries_of(page: str, command: str) -> list[Elsewhere]:
    return [
        entry
        for entry in ELSEWHERE
        if re.fullmatch(entry.commands, command) or re.fullmatch(entry.commands, f"{page}: {command}")
    ]


def test_every_command_is_run_by_a_test_or_has_a_reason() -> None:
    unknown = [(page, command) for page, command in FOUND if not entries_of(page, command) and command not in RUN_HERE]
    assert unknown == []
    assert len(FOUND) > 80


def test_every_entry_is_about_a_command_of_the_docs() -> None:
    used = {entry for page, command in FOUND for entry in entries_of(page, command)}
    assert [entry.commands for entry in ELSEWHERE if entry not in used] == []
    assert set(RUN_HERE) <= {command for _, command in FOUND}
    assert all(bool(entry.test) != bool(entry.reason) for entry in ELSEWHERE)


@pytest.mark.parametrize("place", sorted({entry.test for entry in ELSEWHERE if entry.test}))
def test_the_tests_that_run_commands_exist(place: str) -> None:
    path, _, name = place.partition("::")
    text = (ROOT / path).read_text(encoding="utf-8")
    assert not name or re.search(rf"^(def {name}\(|{name} = |    def {name}\()", text, re.MULTILINE)


def test_the_tests_that_run_a_command_name_it() -> None:
    """A weak sign that they do run it."""
    silent = []
    for page, command in FOUND:
        if named := re.match(r"uv run visionloop ([a-z-]+)", command):
            word = named[1].replace("-", "[-_]")
            for place in {entry.test.partition("::")[0] for entry in entries_of(page, command) if entry.test}:
                if not re.search(rf"\b{word}\b", (ROOT / place).read_text(encoding="utf-8")):
                    silent.append((command, place))
    assert silent == []


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("docs"))
    copy_sources(project.folder)
    project.init_git()
    project.commit("start")
    for name in (".visionloop", "mlflow.db", "mlartifacts", ".dvc/cache", ".venv"):
        (project.folder / name).mkdir()
    return project


@pytest.mark.parametrize("command", RUN_HERE)
def test_a_cheap_command_runs(project: Project, command: str) -> None:
    words = shlex.split(command.removeprefix("uv run "))
    if words[0] == "visionloop":
        words = [sys.executable, str(project.folder / "cli/visionloop.py"), *words[1:]]
    project.run(*words)


def test_the_list_of_commands_is_that_of_the_project(project: Project) -> None:
    assert "`uv run visionloop` lists" in TEXTS["README.md"]
    listed = project.run(sys.executable, "cli/visionloop.py")
    assert re.findall(r"^  ([a-z-]+) ", listed, re.MULTILINE)[:2] == ["predict", "generate"]


def test_params_exist() -> None:
    """The params that commands set, and those of the presets, are params with these values within their bounds."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    added = set(re.findall(r"^  (\w+): .*$", TEXTS["docs/extending.md"], re.MULTILINE))  # by that page
    presets = " ".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "presets").iterdir()))
    named = re.findall(r"-S '?(\w+)\.(\w+)=", " ".join([*TEXTS.values(), presets]))
    assert len(named) > 50
    assert {f"{section}.{key}" for section, key in named if key not in params[section] and key not in added} == set()


# ---------------------------------------------------------------- links, paths and names


def anchors(page: Path) -> set[str]:
    """As GitHub makes them from the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page: str) -> None:
    broken = []
    for link in re.findall(r"\]\((?!https?://)([^)\s]+)\)", TEXTS[page]):
        path, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", [page for page in TEXTS if page != "docs/upgrading.md"])  # that one names old paths
def test_paths_of_the_project_exist(page: str) -> None:
    made = set(re.findall(r"^Create `(.*)`", TEXTS[page], re.MULTILINE)) | {"tests/ROOM/test_MODULE.py"}
    made.add("services/.env")  # by the user
    named = set(re.findall(r"`((?:stages|ops|cli|tests|docs|bench|presets|services)/[\w./*-]*)`", TEXTS[page])) - made
    assert [path for path in sorted(named) if not list(ROOT.glob(path.rstrip("/")))] == []


def test_every_page_is_in_the_readme() -> None:
    assert [page.name for page in PAGES if page.name != "README.md" and f"{page.name})" not in TEXTS["README.md"]] == []


def test_architecture_names_every_output() -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    outputs = [out for stage in stages.values() for out in stage["outs"]]
    outputs += [next(iter(metric)) for stage in stages.values() for metric in stage.get("metrics", [])]
    assert [path for path in outputs if f"`{path}`" not in TEXTS["docs/architecture.md"]] == []


def test_architecture_has_a_row_for_every_package() -> None:
    rooms = {path.parent for path in CODE if path.name != "__init__.py"}
    tops = {"/".join(room.relative_to(ROOT).parts[:2]) for room in rooms} - {"stages", "ops", "cli"}
    assert [room for room in sorted(tops) if f"`{room}`" not in TEXTS["docs/architecture.md"]] == []


def test_architecture_lists_the_rooms_in_their_order() -> None:
    listed = re.findall(r"^\| `(stages/\w+)` \|", TEXTS["docs/architecture.md"], re.MULTILINE)
    assert listed == [room.replace(".", "/") for room in ROOMS if room.startswith("stages.")]


def environment_variables(path: Path) -> set[str]:
    """Names of environment variables that a module reads or sets: keys of os.environ, and of dictionaries like it."""
    pattern = re.compile(r"CI|PATH|PYTHONPATH|TMPDIR|LAUNCH|[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    names = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    reads = "environ" in path.read_text(encoding="utf-8")
    return {name for name in names if reads and pattern.fullmatch(name)}


def test_architecture_names_every_environment_variable() -> None:
    _, _, table = TEXTS["docs/architecture.md"].partition("## Environment variables")
    named = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", table))
    of_mlflow = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}  # codes of its errors
    read = {name for path in CODE for name in environment_variables(path)} - of_mlflow - {"FILE_OR_FOLDER"}
    assert read - named == set()
    workflows = "".join(path.read_text(encoding="utf-8") for path in (ROOT / ".github/workflows").glob("*.yml"))
    assert named - read - set(re.findall(r"VISIONLOOP_\w+", workflows)) == {"LAUNCH"}


# ---------------------------------------------------------------- messages


@cache
def messages_of_the_code() -> list[str]:
    """The texts of each module, with a NUL between two and where a value is filled in."""
    modules = []
    for path in CODE:
        found = []
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("\0".join(str(part.value) for part in node.values if isinstance(part, ast.Constant)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
        modules.append("\0".join(found))
    return modules


def pieces(message: str) -> list[str]:
    """What a message of docs/troubleshooting.md has between its `...`, without what the terminal puts before it."""
    text = re.sub(r"^(error|warning|ERROR|tracking): ", "", message).removeprefix("params.yaml: ")
    return [piece.strip() for piece in text.split("...") if re.search(r"\w\w", piece)]


TROUBLES = re.findall(r"^```text\n(.*)\n```$", TEXTS["docs/troubleshooting.md"], re.MULTILINE)
# Messages of other programs, and the package whose source has them.
FOREIGN = {
    "failed to reproduce": "dvc/repo/reproduce.py",
    "Unable to acquire lock": "dvc/lock.py",
    "input should be less than or equal to": "",  # pydantic's, compiled; tests/test_pipeline.py sees it
}


def test_troubleshooting_has_the_likeliest_errors() -> None:
    assert len(TROUBLES) >= 20
    assert len(set(TROUBLES)) == len(TROUBLES)


@pytest.mark.parametrize("message", TROUBLES)
def test_a_message_of_troubleshooting_is_one_of_the_code(message: str) -> None:
    foreign = [(text, source) for text, source in FOREIGN.items() if text in message]
    if foreign:
        text, source = foreign[0]
        package = importlib.util.find_spec("dvc")
        assert package is not None
        assert package.origin is not None
        assert not source or text in (Path(package.origin).parents[1] / source).read_text(encoding="utf-8")
        return
    wanted = pieces(message)
    assert sum(map(len, wanted)) > 20
    assert any(all(piece in text for piece in wanted) for text in messages_of_the_code())
