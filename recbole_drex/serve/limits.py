"""What a request may ask for, in one place; larger ones are refused with a reason, and the page of the API says so."""

from __future__ import annotations

MAX_BODY = 1 << 20
"""Bytes of a request's body, unless the command says otherwise."""
MAX_REQUESTS = 64
"""Requests that are read or worked on at once; the next is answered 503."""
REMEMBERED = 10_000
"""Users whose best items are remembered, unless the command says otherwise: about 1 kB each."""
BODY_SECONDS = 10
"""Time in which a body must have come."""
MAX_TOP = 100
"""Recommendations of a user."""
MAX_USERS = 50
"""Users of one request."""
MAX_EXPLAINED = 20
"""Explained recommendations of one request, over all its users."""
MAX_INTERACTIONS = 200
"""Interactions of a new user."""
MAX_REVIEW = 100_000
"""Characters of a posted review."""
MAX_NAME = 200
"""Characters of a name or of a search."""
MAX_FOUND = 100
"""Users or items that a search gives."""


def described(max_body: int) -> list[tuple[str, float]]:
    """All limits with their meaning, for readers.

    Args:
        max_body: bytes of a body, as the command says.
    """
    return [
        ("bytes of a body", max_body),
        ("seconds in which a body must have come", BODY_SECONDS),
        ("requests at once", MAX_REQUESTS),
        ("recommendations of a user", MAX_TOP),
        ("users of a request", MAX_USERS),
        ("explained recommendations of a request, over all users", MAX_EXPLAINED),
        ("interactions of somebody new", MAX_INTERACTIONS),
        ("characters of a review", MAX_REVIEW),
        ("characters of a name or a search", MAX_NAME),
        ("matches of a search", MAX_FOUND),
    ]
