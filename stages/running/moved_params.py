"""Params that have another name or section than before, so that a stage that meets an old one can say where it is now.

Only errors read this; docs/upgrading.md explains it, and `python -m ops upgrade` moves them.
"""

# The old name of a param, and its names now.
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


def left_behind(document: dict, section: str) -> dict[str, str]:
    """The params in an old place that belong to `section` now: their old names, and their new ones."""
    found: dict[str, str] = {}
    for old, places in MOVED.items():
        before, _, name = old.partition(".")
        values = document.get(before)
        if before != section and isinstance(values, dict) and name in values:
            found.update((old, new) for new in places if new.startswith(f"{section}."))
    return found


def place_of(section: str, name: str) -> str:
    """Where a param of that name is, when `section` is the wrong one for it; empty when it is nowhere."""
    places = [new for news in MOVED.values() for new in news]
    return next((new for new in places if new.endswith(f".{name}") and not new.startswith(f"{section}.")), "")
