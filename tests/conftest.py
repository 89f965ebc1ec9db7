"""What every test shares: a busy machine fails none of them by the clock."""

from __future__ import annotations

from hypothesis import settings

# Hypothesis fails an example that takes over 200 ms, which a loaded machine makes of any.
settings.register_profile("thoracle", deadline=None)
settings.load_profile("thoracle")
