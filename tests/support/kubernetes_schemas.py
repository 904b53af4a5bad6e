"""Kubernetes' own JSON schemas in their strict form, each read once: that takes longer than any check."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import kubernetes_validate
from kubernetes_validate import utils

if TYPE_CHECKING:
    from chronik.manifest import Manifest

utils.schema_contents = cache(utils.schema_contents)
utils.all_versions = cache(utils.all_versions)


def check(manifest: Manifest) -> None:
    """Fail if a manifest has a field that its kind does not know, or a value that it does not take."""
    kubernetes_validate.validate(manifest, "1.36", strict=True)
