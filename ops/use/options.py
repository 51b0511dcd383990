"""Options that `visionloop predict` and `visionloop generate` share."""

from stages.serving.registry.network import Network


def model_help(network: Network) -> str:
    """The help text of the option --model."""
    return (
        "models:/NAME@ALIAS, models:/NAME/VERSION or a .keras file next to its classes.json; default: "
        f"models:/{network.model}@champion, else @candidate, else {network.file}"
    )
