"""Runs the steps of a workflow as GitHub's runner does: expressions by GitHub's own library, checkouts of a real
repository, `run:` steps in bash with the variables and files that GitHub sets."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.conftest import ROOT, user_environment

HERE = Path(__file__).parent
BASH = {None: ["bash", "-e"], "bash": ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail"]}


class Expressions:
    """GitHub's expression library in a Node.js process; installed from npm when it is not there."""

    def __init__(self) -> None:
        environment = user_environment()
        if not (HERE / "node_modules" / "@actions" / "expressions").exists():
            command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--silent"]
            subprocess.run(command, cwd=HERE, env=environment, check=True)
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            ["node", str(HERE / "evaluate.mjs")], stdin=pipe, stdout=pipe, text=True, env=environment
        )

    def evaluate(
        self, text: Any, context: dict[str, Any], status: str = "success", workspace: str = ".", condition: bool = False
    ) -> Any:
        """The value of a text with `${{ }}` in it, or of a condition; everything else is its own value."""
        if not isinstance(text, str):
            return text
        request = {"text": text, "context": context, "status": status, "workspace": workspace, "condition": condition}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise ValueError(f"{text}: {answer['error']}")
        return answer["value"]

    def close(self) -> None:
        self.process.communicate()


def event(name: str, **changes: Any) -> dict[str, Any]:
    """A recorded payload."""
    payload = json.loads((HERE / "events" / f"{name}.json").read_text(encoding="utf-8"))
    return payload | changes


def github_context(kind: str, payload: dict[str, Any], sha: str, actor: str | None = None) -> dict[str, Any]:
    """The `github` context of an event, as GitHub derives it from the payload."""
    pull = payload.get("pull_request")
    ref = f"refs/pull/{pull['number']}/merge" if pull else payload.get("ref", "refs/heads/main")
    return {
        "event_name": kind,
        "event": payload,
        "sha": sha,
        "ref": ref,
        "ref_name": ref.removeprefix("refs/heads/").removeprefix("refs/pull/"),
        "head_ref": pull["head"]["ref"] if pull else "",
        "base_ref": pull["base"]["ref"] if pull else "",
        "actor": actor or payload.get("sender", {"login": "ada"})["login"],
        "repository": payload["repository"]["full_name"],
        "token": "ghs_token",
        "run_id": "4711",
        "server_url": "https://github.com",
    }


@dataclass
class Job:
    """What became of a job."""

    result: str = "success"  # success, failure, skipped
    outputs: dict[str, str] = field(default_factory=dict)
    steps: dict[str, str] = field(default_factory=dict)  # name -> outcome
    said: str = ""
    summary: str = ""
    runs_on: Any = None
    environment: dict[str, str] = field(default_factory=dict)
    workspace: Path = Path()


@dataclass
class Runner:
    """A repository on GitHub: its origin, variables and secrets, and a folder for the machines of its jobs."""

    expressions: Expressions
    origin: Path
    folder: Path
    api_url: str
    variables: dict[str, str]
    secrets: dict[str, str] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)  # of the machine's environment
    machines: int = 0

    def run(
        self,
        workflow: str,
        kind: str,
        payload: dict[str, Any],
        sha: str,
        *,
        actor: str | None = None,
        inputs: dict[str, Any] | None = None,
        lose_when: Callable[[], bool] = lambda: False,
    ) -> dict[str, Job]:
        """Runs the jobs of a workflow of the commit `sha`; once `lose_when`, the machine is lost."""
        text = self._show(sha, f".github/workflows/{workflow}")
        document = yaml.load(text, yaml.BaseLoader)
        context: dict[str, Any] = {
            "github": github_context(kind, payload, sha, actor),
            "vars": self.variables,
            "secrets": self.secrets,
            "inputs": inputs or {},
            "needs": {},
            "env": {},
        }
        context["env"] = self._values(document.get("env", {}), context)
        jobs: dict[str, Job] = {}
        for name, definition in document["jobs"].items():
            needed = definition.get("needs", [])
            needed = [needed] if isinstance(needed, str) else needed
            context["needs"] = {n: {"result": jobs[n].result, "outputs": jobs[n].outputs} for n in needed}
            bad = next((jobs[n].result for n in needed if jobs[n].result != "success"), "success")
            if self.expressions.evaluate(definition.get("if", "true"), context, bad, condition=True):
                shell = document.get("defaults", {}).get("run", {}).get("shell")
                jobs[name] = self._run_job(definition, context, shell, lose_when)
            else:
                jobs[name] = Job("skipped")
        return jobs

    def _show(self, sha: str, path: str) -> str:
        shown = ["git", "--git-dir", str(self.origin), "show", f"{sha}:{path}"]
        return subprocess.run(shown, check=True, capture_output=True, text=True).stdout

    def _values(self, environment: dict[str, str], context: dict[str, Any]) -> dict[str, str]:
        found = {name: self.expressions.evaluate(value, context) for name, value in environment.items()}
        return {name: "" if value is None else str(value) for name, value in found.items()}

    def _run_job(
        self, definition: dict[str, Any], context: dict[str, Any], shell: str | None, lose_when: Callable[[], bool]
    ) -> Job:
        self.machines += 1
        machine = self.folder / f"machine-{self.machines}"
        job = Job(workspace=machine / "work", runs_on=self.expressions.evaluate(definition["runs-on"], context))
        job.workspace.mkdir(parents=True)
        for file in ("env", "summary"):
            (machine / file).touch()
        (machine / "event.json").write_text(json.dumps(context["github"]["event"]), encoding="utf-8")
        job.environment = context["env"] | self._values(definition.get("env", {}), context)
        steps: dict[str, Any] = {}
        for number, step in enumerate(definition["steps"]):
            name = step.get("name") or step.get("id") or step.get("uses", "").split("@")[0] or step["run"]
            local = context | {"steps": steps, "env": job.environment, "job": {"status": job.result}}
            asked = step.get("if", "success()")
            if not self.expressions.evaluate(asked, local, job.result, str(job.workspace), condition=True):
                job.steps[name] = "skipped"
                continue
            output = machine / f"output-{number}"
            output.touch()
            if "uses" in step:
                fine = self._use(step, local, job)
            else:
                fine = self._run_step(step, local, job, machine, output, shell, lose_when)
            job.steps[name] = "success" if fine else "failure"
            outputs = dict(line.split("=", 1) for line in output.read_text(encoding="utf-8").splitlines())
            if "id" in step:
                steps[step["id"]] = {"outputs": outputs, "outcome": job.steps[name], "conclusion": job.steps[name]}
            if not fine:
                job.result = "failure"
                if lose_when():  # nobody is left to run the other steps
                    break
        job.outputs = self._values(definition.get("outputs", {}), context | {"steps": steps})
        job.summary = (machine / "summary").read_text(encoding="utf-8")
        return job

    def _use(self, step: dict[str, Any], context: dict[str, Any], job: Job) -> bool:
        """The actions that the workflows use: checkout for real; uv is there, and an artifact stays where it is."""
        action, _, commit = step["uses"].partition("@")
        assert re.fullmatch(r"[0-9a-f]{40}", commit), f"{action} is not pinned"
        values = {name: self.expressions.evaluate(value, context) for name, value in step.get("with", {}).items()}
        if action == "actions/checkout":
            sha = values.get("ref", context["github"]["sha"])
            depth = [] if values.get("fetch-depth") == "0" else ["--depth=1"]
            refs = ["+refs/heads/*:refs/remotes/origin/*"] if not depth else [sha]
            for command in (
                ["init", "--quiet"],
                ["remote", "add", "origin", f"file://{self.origin}"],
                ["fetch", "--quiet", *depth, "origin", *refs],
                ["checkout", "--quiet", "--detach", sha],
            ):
                subprocess.run(["git", *command], cwd=job.workspace, check=True, capture_output=True)
            if (ROOT / "uv.lock").exists():  # what uv resolved already: nothing is asked of the registry
                shutil.copy(ROOT / "uv.lock", job.workspace)
            return True
        if action == "actions/upload-artifact":
            return (job.workspace / values["path"]).exists()
        assert action == "astral-sh/setup-uv"
        return shutil.which("uv") is not None

    def _programs(self) -> Path:
        """A folder with a `uv` that leaves alone what the environment of the tests, which all machines share, holds of
        this project: that is the command `visionloop`, which runs the code of the folder it is called in."""
        folder = self.folder / "programs"
        if not folder.exists():
            folder.mkdir(parents=True)
            (folder / "uv").write_text(
                f'#!/bin/sh\nuv={shutil.which("uv")}\nif [ "$1" = sync ]; then shift; set -- sync --inexact '
                '--no-install-project "$@"; fi\nexec "$uv" "$@"\n'
            )
            (folder / "uv").chmod(0o755)
        return folder

    def _run_step(
        self,
        step: dict[str, Any],
        context: dict[str, Any],
        job: Job,
        machine: Path,
        output: Path,
        shell: str | None,
        lose_when: Callable[[], bool],
    ) -> bool:
        github = context["github"]
        script = machine / "script.sh"
        script.write_text(self.expressions.evaluate(step["run"], context), encoding="utf-8")
        set_by_github = {
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTOR": github["actor"],
            "GITHUB_API_URL": self.api_url,
            "GITHUB_BASE_REF": github["base_ref"],
            "GITHUB_ENV": str(machine / "env"),
            "GITHUB_EVENT_NAME": github["event_name"],
            "GITHUB_EVENT_PATH": str(machine / "event.json"),
            "GITHUB_HEAD_REF": github["head_ref"],
            "GITHUB_OUTPUT": str(output),
            "GITHUB_REF": github["ref"],
            "GITHUB_REF_NAME": github["ref_name"],
            "GITHUB_REPOSITORY": github["repository"],
            "GITHUB_RUN_ID": github["run_id"],
            "GITHUB_SERVER_URL": github["server_url"],
            "GITHUB_SHA": github["sha"],
            "GITHUB_STEP_SUMMARY": str(machine / "summary"),
            "GITHUB_WORKSPACE": str(job.workspace),
            "RUNNER_TEMP": str(machine),
        }
        environment = user_environment() | self.extra | set_by_github | job.environment
        environment |= self._values(step.get("env", {}), context)
        environment["PATH"] = f"{self._programs()}{os.pathsep}{environment['PATH']}"
        with (machine / "log").open("a+", encoding="utf-8") as log:
            start = log.tell()
            process = subprocess.Popen(
                [*BASH[step.get("shell", shell)], str(script)],
                cwd=job.workspace,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            while process.poll() is None:
                if lose_when():
                    _lose(process.pid)
                time.sleep(0.1)
            log.seek(start)
            job.said += log.read()
        return process.returncode == 0


def _lose(pid: int) -> None:
    """Ends a process and all that it started, without a word, as a machine that is switched off."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
