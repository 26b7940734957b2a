"""Limits of requests. Requests beyond them are refused with a reason, and the page of the API lists them."""

from __future__ import annotations

MAX_BODY = 1 << 20
"""Default maximum number of bytes of a request body."""
MAX_CONNECTIONS = 500
"""Maximum number of open connections without a request; beyond it, the longest idle connection is closed."""
HEADER_SECONDS = 10
"""Time limit for the header of a request."""
MAX_REQUESTS = 64
"""Maximum number of concurrent requests, beyond which status 503 is returned; and of concurrently read bodies, beyond
which the oldest is cancelled."""
MAX_LARGE = 32
"""Maximum number of concurrent large requests: explanations, and reviews of a new user."""
MAX_LARGE_OF_CLIENT = 16
"""Maximum number of these from one address."""
WORK_SECONDS = 60
"""Time limit of a large request."""
CACHED_USERS = 10_000
"""Default number of users whose best items are cached: about 1 kB each."""
BODY_SECONDS = 10
"""Time limit for a body."""
MAX_TOP = 100
"""Maximum number of recommendations per user."""
MAX_USERS = 50
"""Maximum number of users per request."""
MAX_EXPLAINED = 20
"""Maximum number of explained recommendations per request, over all its users."""
MAX_INTERACTIONS = 200
"""Maximum number of interactions of a new user."""
MAX_REVIEW = 100_000
"""Maximum length of a posted review."""
MAX_NAME = 200
"""Maximum length of a name or of a search."""
MAX_MATCHES = 100
"""Maximum number of users or items in the result of a search."""


def described(max_body: int) -> list[tuple[str, float]]:
    """All limits with descriptions.

    Args:
        max_body: maximum number of bytes of a body.
    """
    return [
        ("bytes of a body", max_body),
        ("seconds for a body to arrive", BODY_SECONDS),
        ("seconds for a header to arrive", HEADER_SECONDS),
        ("concurrent requests", MAX_REQUESTS),
        ("concurrent requests that explain or read reviews", MAX_LARGE),
        ("such requests from one address", MAX_LARGE_OF_CLIENT),
        ("seconds that such a request may take", WORK_SECONDS),
        ("recommendations per user", MAX_TOP),
        ("users per request", MAX_USERS),
        ("explained recommendations per request, over all users", MAX_EXPLAINED),
        ("interactions of a new user", MAX_INTERACTIONS),
        ("characters of a review", MAX_REVIEW),
        ("characters of a name or a search", MAX_NAME),
        ("matches of a search", MAX_MATCHES),
    ]
