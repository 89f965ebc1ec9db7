"""Heavy imports that the fork server of :mod:`client.isolate` does once for all its children."""

import client.learners  # noqa: F401 - brings torch and timm
