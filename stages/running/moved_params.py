"""Params that were renamed or moved to another section, so that a stage that finds an old name can state the new one.

Only error messages use this; docs/upgrading.md explains it, and `visionloop upgrade` moves them.
"""

# The old name of each param: its names now.
MOVED: dict[str, tuple[str, ...]] = {
    **{
        f"evaluate.{name}": (f"evaluate_gan.{name}",)
        for name in (
            *("images", "kid_subsets", "kid_subset_size", "fd_sizes", "fd_draws", "class_images"),
            *("memorisation_images", "near_copy", "cas_images", "cas_steps"),
        )
    },
    **{
        f"evaluate.{name}": (f"evaluate_cnn.{name}",)
        for name in (
            *("resamples", "corrupted_images", "outlier_images", "outlier_bank", "neighbours", "accepted"),
            *("label_images", "label_steps"),
        )
    },
    "evaluate.cas_batch_size": ("evaluate_gan.cas_batch_size", "evaluate_cnn.label_batch_size"),
    "evaluate.cas_lr": ("evaluate_gan.cas_lr", "evaluate_cnn.label_lr"),
    "evaluate.seed": ("evaluate_cnn.seed", "evaluate_gan.seed"),
}


def params_to_move(document: dict, section: str) -> dict[str, str]:
    """The params of `document` in an old place that now belong to `section`: new names by old names."""
    found: dict[str, str] = {}
    for old, places in MOVED.items():
        before, _, name = old.partition(".")
        values = document.get(before)
        if before != section and isinstance(values, dict) and name in values:
            found.update((old, new) for new in places if new.startswith(f"{section}."))
    return found


def name_elsewhere(section: str, name: str) -> str:
    """The full name of a moved param called `name` outside of `section`; empty when there is none."""
    places = [new for news in MOVED.values() for new in news]
    return next((new for new in places if new.endswith(f".{name}") and not new.startswith(f"{section}.")), "")
