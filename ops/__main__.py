"""Runs a command of the project: `visionloop` lists them, `visionloop NAME --help` explains one.

It imports only the command's own module, so `python3 -m ops setup` needs only Python.
"""

import runpy
import sys

# By purpose: the name of a command, the module that runs it, and its description.
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "use the networks": {
        "predict": ("ops.use.predict", "classify images"),
        "generate": ("ops.use.generate", "make images"),
    },
    "find better params": {
        "search": ("ops.search.__main__", "search for better params with Optuna"),
        "lr-finder": ("ops.search.lr_finder", "suggest a learning rate"),
    },
    "compare and promote": {
        "report": ("ops.report.__main__", "write a page that compares this state with another revision"),
        "promote": ("ops.promote.__main__", "compare the networks with the champions and promote the better ones"),
        "drift": ("ops.drift.__main__", "compare images with the champion's training images"),
    },
    "share results": {
        "fetch": ("ops.remote.fetch", "fetch inputs and outputs of stages from the DVC remote"),
        "share": ("ops.remote.share", "push results so that other machines need not run the stages"),
    },
    "run in CI": {
        "retrain": ("ops.ci.retrain", "run the stages that changed and push each one's results"),
        "deliver": ("ops.ci.deliver", "commit the results to the branch"),
        "github": ("ops.ci.github", "comment on pull requests, open issues, set statuses"),
    },
    "work on the project": {
        "setup": ("ops.dev.setup", "install the packages that this checkout needs on this machine"),
        "lock": ("ops.dev.lock", "write requirements.lock and versions.yaml"),
        "dependencies": ("ops.dev.dependencies", "print what dvc.yaml should list as dependencies"),
        "metrics": ("ops.dev.metrics_page", "write the tables of docs/metrics.md"),
        "upgrade": ("ops.dev.upgrade", "migrate a repository from an older version"),
        "verify": ("ops.dev.verify", "check that this commit reproduces its results"),
    },
}


def main() -> None:
    modules = {name: module for group in COMMANDS.values() for name, (module, _) in group.items()}
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command in ("-h", "--help"):
        print("usage: visionloop COMMAND ...\n")
        for title, group in COMMANDS.items():
            print(f"{title}:")
            for name, (_, description) in group.items():
                print(f"  {name:<13} {description}")
        print("\n`visionloop COMMAND --help` explains one")
        return
    if command not in modules:
        sys.exit(f"error: unknown command {command!r}: expected one of {', '.join(modules)}")
    del sys.argv[1]
    runpy.run_module(modules[command], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
