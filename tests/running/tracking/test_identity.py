"""Which registered version a network is, by its tags."""

import hashlib
from pathlib import Path

import pytest

from stages.running.tracking.identity import (
    SERVING_CODE_IN_BUNDLES,
    bundle_sha256,
    content_sha256,
    is_version_of,
    sha256_of,
)

NETWORK, CLASSES, CALIBRATION = (hashlib.sha256(content).hexdigest() for content in (b"net", b"[]", b"t"))


def old_tags(name: str, *sha256s: str) -> dict[str, str]:
    """The tags that commit 7d5571f gave to a version."""
    network, *files = sha256s
    parts = "".join([network, SERVING_CODE_IN_BUNDLES[name], *files])
    return {"sha256": network, "bundle_sha256": hashlib.sha256(parts.encode()).hexdigest()}


def test_the_sha256_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "network").write_bytes(b"net")
    assert sha256_of(tmp_path / "network") == NETWORK


def test_the_content_is_the_network_and_the_files_beside_it_in_order() -> None:
    assert content_sha256([NETWORK, CLASSES]) == hashlib.sha256(f"{NETWORK}{CLASSES}".encode()).hexdigest()
    several = [[NETWORK], [NETWORK, CLASSES], [CLASSES, NETWORK], [NETWORK, CLASSES, CALIBRATION]]
    assert len({content_sha256(one) for one in several}) == len(several)


def test_a_version_is_known_by_its_content_whatever_served_it() -> None:
    tags = {"content_sha256": content_sha256([NETWORK, CLASSES]), "bundle_sha256": "of other serving code"}
    assert is_version_of(tags, "visionloop-cnn", [NETWORK, CLASSES])
    assert not is_version_of(tags, "visionloop-cnn", [NETWORK, CLASSES, CALIBRATION])
    assert not is_version_of(tags, "visionloop-cnn", [CLASSES, NETWORK])


@pytest.mark.parametrize("name", ["visionloop-cnn", "visionloop-gan"])
def test_a_version_of_the_old_kind_is_known_by_its_bundle(name: str) -> None:
    tags = old_tags(name, NETWORK, CLASSES, CALIBRATION)
    assert is_version_of(tags, name, [NETWORK, CLASSES, CALIBRATION])
    assert not is_version_of(tags, name, [NETWORK, CLASSES])
    assert not is_version_of(tags | {"bundle_sha256": "of an older commit"}, name, [NETWORK, CLASSES, CALIBRATION])


def test_the_content_decides_where_a_version_has_both_tags() -> None:
    tags = old_tags("visionloop-cnn", NETWORK, CLASSES) | {"content_sha256": content_sha256([CLASSES, NETWORK])}
    assert not is_version_of(tags, "visionloop-cnn", [NETWORK, CLASSES])


def test_versions_without_tags_and_models_without_old_versions_are_never_the_same() -> None:
    assert not is_version_of({}, "visionloop-cnn", [NETWORK, CLASSES])
    assert not is_version_of({"sha256": NETWORK}, "visionloop-gan", [NETWORK, CLASSES])
    tags = {"bundle_sha256": bundle_sha256([NETWORK, CLASSES], CALIBRATION)}
    assert not is_version_of(tags, "visionloop-detector", [NETWORK, CLASSES])
