"""Identifies the registered versions of a model: pure functions of sha256s and of a version's tags.

The tag `content_sha256` covers the network and its data files (class names, calibration). It does not cover the code
that serves them: an edit of a comment there would register every network anew.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

# Up to commit 7d5571f the tag `bundle_sha256`, which includes the sha256 of the serving code, identified a version.
# These are the hashes of that code (stages/lib/serve_classifier.py and stages/lib/serve_generator.py), by registered
# model: with them, a network that was registered then is recognised instead of registered again.
SERVING_CODE_IN_BUNDLES = {
    "visionloop-cnn": "c71720ddd73e460ced61716f81ee698f223fa94b0ae8e6ac6820dde1f0599190",
    "visionloop-gan": "c3da87648b37ef770c9bcddb35d849eb8aa1c89c9ce4033cc3ad6cd5a13f9733",
}


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_sha256(sha256s: Sequence[str]) -> str:
    """The identity of a version; `sha256s` are those of the network and of its data files, in order."""
    return hashlib.sha256("".join(sha256s).encode()).hexdigest()


def bundle_sha256(sha256s: Sequence[str], serving_code: str) -> str:
    """The identity up to commit 7d5571f; `serving_code` is the sha256 of the Python file that serves the network."""
    return content_sha256([sha256s[0], serving_code, *sha256s[1:]])


def is_version_of(tags: Mapping[str, str], name: str, sha256s: Sequence[str]) -> bool:
    """Whether the version of model `name` with these tags consists of exactly these files: the network and its data
    files, by their sha256s, in order."""
    if "content_sha256" in tags:
        return tags["content_sha256"] == content_sha256(sha256s)
    serving_code = SERVING_CODE_IN_BUNDLES.get(name)
    return serving_code is not None and tags.get("bundle_sha256") == bundle_sha256(sha256s, serving_code)
