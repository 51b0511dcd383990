"""Runs a command of the project: `python -m ops` lists them, `python -m ops NAME --help` explains one.

Nothing but the command itself is imported, so `python3 -m ops setup` needs Python alone.
"""

import runpy
import sys

# By what they are for: the name of a command, the module that runs it, and what it does.
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
        "report": ("ops.report.__main__", "compare this state with another revision, as a page"),
        "promote": ("ops.promote.__main__", "weigh the networks against the champions, and promote what is better"),
        "drift": ("ops.drift.__main__", "compare images with those that the champion was trained on"),
    },
    "share results": {
        "fetch": ("ops.remote.fetch", "fetch from the DVC remote what stages need or have made"),
        "share": ("ops.remote.share", "push results, so that other machines need not run the stages"),
    },
    "run in CI": {
        "retrain": ("ops.ci.retrain", "run what changed, and push it stage by stage"),
        "deliver": ("ops.ci.deliver", "commit the results to the branch"),
        "github": ("ops.ci.github", "comment on pull requests, open issues, set statuses"),
    },
    "work on the project": {
        "setup": ("ops.dev.setup", "install what this checkout needs on this machine"),
        "lock": ("ops.dev.lock", "write requirements.lock and versions.yaml"),
        "dependencies": ("ops.dev.dependencies", "print what dvc.yaml should list as dependencies"),
        "metrics": ("ops.dev.metrics_page", "write the table of docs/metrics.md"),
        "upgrade": ("ops.dev.upgrade", "take a repository of an older version over to this one"),
        "verify": ("ops.dev.verify", "prove that this commit gives its results again"),
    },
}


def main() -> None:
    modules = {name: module for group in COMMANDS.values() for name, (module, _) in group.items()}
    asked = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if asked in ("-h", "--help"):
        print("usage: python -m ops COMMAND ...\n")
        for title, group in COMMANDS.items():
            print(f"{title}:")
            for name, (_, what) in group.items():
                print(f"  {name:<13} {what}")
        print("\n`python -m ops COMMAND --help` explains one")
        return
    if asked not in modules:
        sys.exit(f"error: there is no command {asked!r}: expected one of {', '.join(modules)}")
    del sys.argv[1]
    runpy.run_module(modules[asked], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
