"""Hypothesis for the gate: no limits of time (the machines are busy ones), and the same cases in every run.

A gate judges the change, not luck. `HYPOTHESIS_PROFILE=explore make unit` looks for new cases.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "gate", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))
