"""Checks whether a data set is usable after its images are decoded and split."""

from collections.abc import Sequence

from stages.ingestion.manifest import ManifestWriter
from stages.running.terminal import UserError


def check_manifest(
    manifest: ManifestWriter,
    classes: Sequence[str],
    *,
    max_bad_fraction: float,
    val_fraction: float,
    test_fraction: float,
) -> None:
    """Raises UserError when too many images cannot be decoded, a class has no train images, or a split has none."""
    bad, count = manifest.undecodable, manifest.accepted
    if bad > max_bad_fraction * manifest.rows:
        more = f"; and {bad - len(manifest.examples)} more" if bad > len(manifest.examples) else ""
        raise UserError(
            f"{bad} of {manifest.rows} images cannot be decoded, and ingest.max_bad_fraction allows "
            f"{max_bad_fraction:.2%}: {'; '.join(manifest.examples)}{more}"
        )
    for name in classes:
        if not count[name, "train"]:
            elsewhere = count[name, "val"] + count[name, "test"]
            rejected = manifest.left_out[name]
            also = f", {rejected} left out as duplicates or undecodable" if rejected else ""
            raise UserError(
                f"class `{name}` is left without train images ({elsewhere} in val and test{also}): add images of it, "
                f"or lower ingest.val_fraction and ingest.test_fraction"
            )
    for split, fraction in (("val", val_fraction), ("test", test_fraction)):
        if not any(count[name, split] for name in classes):
            raise UserError(
                f"none of the {count.total()} images is in the {split} split: raise ingest.{split}_fraction, which is "
                f"{fraction:g}, or add images"
            )
