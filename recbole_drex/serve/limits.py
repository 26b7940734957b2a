"""What a request may ask for, in one place; larger ones are refused with a reason, and the page of the API says so."""

from __future__ import annotations

MAX_BODY = 1 << 20
"""Bytes of a request's body, unless the command says otherwise."""
MAX_CONNECTIONS = 500
"""Open connections without a request; one more closes the one that has been silent for longest."""
HEADER_SECONDS = 10
"""Time in which the header of a request must have come."""
MAX_REQUESTS = 64
"""Requests that are worked on at once, the next is answered 503; and bodies that are read at once, one more gives up
the one that has been coming for longest."""
MAX_LARGE = 32
"""Requests at once that take long: explanations, and reviews of a new user."""
MAX_LARGE_OF_CLIENT = 16
"""Of them, those from one address."""
WORK_SECONDS = 60
"""Time after which a request that takes long is given up."""
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
        ("seconds in which a header must have come", HEADER_SECONDS),
        ("requests at once", MAX_REQUESTS),
        ("requests at once that explain or read reviews", MAX_LARGE),
        ("of them, from one address", MAX_LARGE_OF_CLIENT),
        ("seconds that such a request may take", WORK_SECONDS),
        ("recommendations of a user", MAX_TOP),
        ("users of a request", MAX_USERS),
        ("explained recommendations of a request, over all users", MAX_EXPLAINED),
        ("interactions of a new user", MAX_INTERACTIONS),
        ("characters of a review", MAX_REVIEW),
        ("characters of a name or a search", MAX_NAME),
        ("matches of a search", MAX_FOUND),
    ]
