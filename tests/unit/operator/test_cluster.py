"""What the API server's refusals mean."""

from __future__ import annotations

import pytest
from storagepair_operator.cluster import ApiError


@pytest.mark.parametrize(
    ("error", "conflict", "final"),
    [
        (ApiError(409, "Conflict", "the object has been modified"), True, False),
        (ApiError(409, "AlreadyExists", "there is one"), False, True),
        (ApiError(422, "Invalid", "the server rejected our request due to an error in our request"), True, False),
        (ApiError(422, "Invalid", 'StorageNode "node1" is invalid: spec.service'), False, True),
        (
            ApiError(422, "Invalid", 'storagenodes "node1" is forbidden: ValidatingAdmissionPolicy x denied'),
            False,
            True,
        ),
        (ApiError(403, "Forbidden", "no"), False, True),
        (ApiError(401, "Unauthorized", "an old token"), False, False),
        (ApiError(429, "TooManyRequests", "later"), False, False),
        (ApiError(500, "InternalError", "broken"), False, False),
        (ApiError(0, "Unreachable", "nobody there"), False, False),
    ],
)
def test_which_errors_pass(error: ApiError, conflict: bool, final: bool) -> None:
    assert (error.conflict, error.final) == (conflict, final)
