"""Which registered version of a model a network is: pure functions of sha256s and of a version's tags.

A version is its network and the data files beside it (class names, calibration), in the tag `content_sha256`. The code
that serves it is not part of that: an edit of a comment there would register every network anew.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

# Up to commit 7d5571f a version was known by the tag `bundle_sha256`, which includes the sha256 of its serving code.
# These are the ones of that commit (stages/lib/serve_classifier.py and stages/lib/serve_generator.py), by registered
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
    """The identity of a version; `sha256s` are those of the network and of the files beside it, in order."""
    return hashlib.sha256("".join(sha256s).encode()).hexdigest()


def bundle_sha256(sha256s: Sequence[str], serving_code: str) -> str:
    """The identity up to commit 7d5571f; `serving_code` is the sha256 of the Python file that serves the network."""
    return content_sha256([sha256s[0], serving_code, *sha256s[1:]])


def is_version_of(tags: Mapping[str, str], name: str, sha256s: Sequence[str]) -> bool:
    """Whether the version of model `name` that has these tags consists of exactly these files: the network and the
    files beside it, by their sha256s, in order."""
    if "content_sha256" in tags:
        return tags["content_sha256"] == content_sha256(sha256s)
    serving_code = SERVING_CODE_IN_BUNDLES.get(name)
    return serving_code is not None and tags.get("bundle_sha256") == bundle_sha256(sha256s, serving_code)
