"""The routes of the server, with their parameters and responses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.responses import HTMLResponse, Response

from recbole_drex import __version__
from recbole_drex.errors import DataError
from recbole_drex.explain.explanation_text import Explanation
from recbole_drex.serve import limits
from recbole_drex.serve.answers import answer, answer_errors
from recbole_drex.serve.guard import Guard
from recbole_drex.serve.pages import Page, docs_page, start_page
from recbole_drex.serve.schemas import (
    ForUsers,
    Health,
    Items,
    NewItemRatings,
    NewItemRequest,
    Problem,
    Profile,
    RecommendationRequest,
    Recommendations,
    Users,
)
from recbole_drex.serve.service import Service
from recbole_drex.serve.worker import Worker

_User = Annotated[str, Query(min_length=1, max_length=limits.MAX_NAME, description="name in the data set")]
_Item = Annotated[str | None, Query(min_length=1, max_length=limits.MAX_NAME, description="name in the data set")]
_Text = Annotated[str, Query(max_length=limits.MAX_NAME, description="part of a name or title, case-insensitive")]
_Top = Annotated[int, Query(ge=1, le=limits.MAX_TOP, description="number of recommendations")]
_Matches = Annotated[int, Query(ge=1, le=limits.MAX_MATCHES, description="maximum number of matches")]
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "unknown user or item"},
    413: {"model": Problem, "description": "the body or a review is too large"},
    422: {"model": Problem, "description": "something is missing, unknown or out of range"},
    501: {"model": Problem, "description": "the model of this run does not offer this"},
    503: {"model": Problem, "description": "too many concurrent requests"},
}


def create_app(service: Service, hosts: Sequence[str] = (), max_body: int = limits.MAX_BODY) -> Guard:
    """Create the application that a server runs.

    Args:
        service: the service of a run.
        hosts: allowed host names, empty for any, see :class:`~recbole_drex.serve.guard.Guard`.
        max_body: maximum number of bytes of a request body.
    """
    health = service.health()
    worker = Worker()

    async def fill_cache() -> None:
        # One user at a time, so that a request waits for at most one user.
        for user in service.users_to_cache():
            await worker.small(service.cache_best, user)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        filling = asyncio.create_task(fill_cache())
        yield
        filling.cancel()
        worker.close()

    app = FastAPI(
        lifespan=life,
        title=f"{health.model} on {health.dataset}",
        version=__version__,
        description="Recommendations with explanations.",
        docs_url=None,
        redoc_url=None,
        responses=_PROBLEMS,
    )
    answer_errors(app)

    @app.get("/health", response_model=Health, summary="Information about the served run")
    async def get_health() -> Response:
        return answer(service.health())

    @app.get("/users", response_model=Users, summary="Find users by name")
    async def get_users(query: _Text = "", limit: _Matches = 20) -> Response:
        return answer(service.users(query, limit))

    @app.get("/items/search", response_model=Items, summary="Find items by title or name")
    async def get_items(query: _Text = "", limit: _Matches = 20) -> Response:
        return answer(service.items(query, limit))

    @app.get("/profile", response_model=Profile, summary="Keywords of the reviews of a user or an item")
    async def get_profile(user: _Item = None, item: _Item = None) -> Response:
        if (user is None) == (item is None):
            raise DataError("give either user or item: /profile?user=NAME or /profile?item=NAME")
        side, name = ("user", user) if user is not None else ("item", item)
        return answer(await worker.small(service.profile, side, name))

    @app.get(
        "/recommend", response_model=Recommendations | Explanation, summary="The best items for a user of the data set"
    )
    async def get_recommend(request: Request, user: _User, top: _Top = 10, explain: bool = False) -> Response:
        wanted = RecommendationRequest.model_validate({"user": user, "top": top, "explain": explain})
        return answer(await recommended(wanted, _client(request)))

    @app.post(
        "/recommend",
        response_model=Recommendations | Explanation | ForUsers,
        summary="The best items for a user, for several users, or for a new user",
    )
    async def post_recommend(request: Request, wanted: RecommendationRequest) -> Response:
        return answer(await recommended(wanted, _client(request)))

    @app.post("/items/predict", response_model=NewItemRatings, summary="Predicted ratings of a new item")
    async def post_new_item(request: Request, wanted: NewItemRequest) -> Response:
        return answer(await worker.large(_client(request), service.predict_new_item, wanted.users, wanted.reviews))

    async def recommended(wanted: RecommendationRequest, client: str) -> Any:
        if wanted.explain:
            _check_explained(wanted.top * len(wanted.users or (wanted.user,)))
        if wanted.interactions is not None:
            if wanted.explain:
                return await worker.large(client, service.explain_new, wanted.interactions, wanted.top)
            if any(one.review for one in wanted.interactions):
                return await worker.large(client, service.recommend_new, wanted.interactions, wanted.top)
            return await worker.small(service.recommend_new, wanted.interactions, wanted.top)
        if wanted.user is not None:
            return await for_user(wanted.user, wanted, client)
        for user in wanted.users or ():
            service.user(user)
        # One user after the other, so that other requests are answered in between.
        return ForUsers([await for_user(user, wanted, client) for user in wanted.users or ()])

    async def for_user(user: str, wanted: RecommendationRequest, client: str) -> Recommendations | Explanation:
        if wanted.explain:
            return await worker.large(client, service.explain, user, wanted.top)
        # Cached results need not wait for the model, which may be busy with another request.
        return service.cached(user, wanted.top) or await worker.small(service.recommend, user, wanted.top)

    @app.get("/explain", response_model=Explanation, summary="Explanations of a user's best items, or of one item")
    async def get_explain(request: Request, user: _User, item: _Item = None, top: _Top = 3) -> Response:
        if item is not None:
            return answer(await worker.large(_client(request), service.explain_pair, user, item))
        _check_explained(top)
        return answer(await worker.large(_client(request), service.explain, user, top))

    pages: dict[str, Page] = {"/": start_page(health), "/docs": docs_page(app.openapi(), max_body)}

    def page_route(page: Page) -> Callable[[], Any]:
        async def show_page() -> Response:
            return HTMLResponse(page.html, headers={"content-security-policy": page.policy})

        return show_page

    for path, page in pages.items():
        app.get(path, include_in_schema=False)(page_route(page))
    return Guard(app, hosts, max_body)


def _client(request: Request) -> str:
    """Address of the client."""
    return request.client.host if request.client else ""


def _check_explained(number: int) -> None:
    if number > limits.MAX_EXPLAINED:
        raise DataError(f"top: at most {limits.MAX_EXPLAINED} recommendations are explained per request, not {number}")
