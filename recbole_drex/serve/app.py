"""The addresses of the server: what each takes and answers."""

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
from recbole_drex.serve.schemas import ForUsers, Health, Items, Problem, Profile, Recommendations, Users, Wish
from recbole_drex.serve.service import Service
from recbole_drex.serve.worker import Worker

_User = Annotated[str, Query(min_length=1, max_length=limits.MAX_NAME, description="as named in the data")]
_Item = Annotated[str | None, Query(min_length=1, max_length=limits.MAX_NAME, description="as named in the data")]
_Text = Annotated[str, Query(max_length=limits.MAX_NAME, description="part of a name or title, in any case")]
_Top = Annotated[int, Query(ge=1, le=limits.MAX_TOP, description="number of recommendations")]
_Found = Annotated[int, Query(ge=1, le=limits.MAX_FOUND, description="matches to give")]
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "no such user or item"},
    413: {"model": Problem, "description": "the body or a review is too large"},
    422: {"model": Problem, "description": "something is missing, unknown or out of range"},
    501: {"model": Problem, "description": "the model of this run cannot do that"},
    503: {"model": Problem, "description": "too many requests at once"},
}


def create_app(service: Service, hosts: Sequence[str] = (), max_body: int = limits.MAX_BODY) -> Guard:
    """The application that a server runs.

    Args:
        service: a run.
        hosts: names by which the server may be asked, empty for any, see :class:`~recbole_drex.serve.guard.Guard`.
        max_body: bytes of a request's body.
    """
    health = service.health()
    worker = Worker()

    async def rank_ahead() -> None:
        # One user at a time: a request waits for no more than one of them.
        for user in service.ahead():
            await worker.small(service.remember, user)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        ahead = asyncio.create_task(rank_ahead())
        yield
        ahead.cancel()
        worker.close()

    app = FastAPI(
        lifespan=life,
        title=f"{health.model} on {health.dataset}",
        version=__version__,
        description="Recommendations and their reasons.",
        docs_url=None,
        redoc_url=None,
        responses=_PROBLEMS,
    )
    answer_errors(app)

    @app.get("/health", response_model=Health, summary="What is served")
    async def get_health() -> Response:
        return answer(service.health())

    @app.get("/users", response_model=Users, summary="Find users by name")
    async def get_users(query: _Text = "", limit: _Found = 20) -> Response:
        return answer(service.users(query, limit))

    @app.get("/items/search", response_model=Items, summary="Find items by title or name")
    async def get_items(query: _Text = "", limit: _Found = 20) -> Response:
        return answer(service.items(query, limit))

    @app.get("/profile", response_model=Profile, summary="What the reviews of a user, or of an item, write about")
    async def get_profile(user: _Item = None, item: _Item = None) -> Response:
        if (user is None) == (item is None):
            raise DataError("give user or item, one of the two: /profile?user=NAME or /profile?item=NAME")
        side, name = ("user", user) if user is not None else ("item", item)
        return answer(await worker.small(service.profile, side, name))

    @app.get(
        "/recommend", response_model=Recommendations | Explanation, summary="The best items for a user of the data"
    )
    async def get_recommend(request: Request, user: _User, top: _Top = 10, explain: bool = False) -> Response:
        wish = Wish.model_validate({"user": user, "top": top, "explain": explain})
        return answer(await recommended(wish, _client(request)))

    @app.post(
        "/recommend",
        response_model=Recommendations | Explanation | ForUsers,
        summary="The best items for a user, for several, or for a new user",
    )
    async def post_recommend(request: Request, wish: Wish) -> Response:
        return answer(await recommended(wish, _client(request)))

    async def recommended(wish: Wish, client: str) -> Any:
        if wish.explain:
            _check_explained(wish.top * len(wish.users or (wish.user,)))
        if wish.interactions is not None:
            if wish.explain:
                return await worker.large(client, service.explain_new, wish.interactions, wish.top)
            if any(one.review for one in wish.interactions):
                return await worker.large(client, service.recommend_new, wish.interactions, wish.top)
            return await worker.small(service.recommend_new, wish.interactions, wish.top)
        if wish.user is not None:
            return await for_user(wish.user, wish, client)
        for user in wish.users or ():
            service.user(user)
        # One after the other, so that others get their turn in between.
        return ForUsers([await for_user(user, wish, client) for user in wish.users or ()])

    async def for_user(user: str, wish: Wish, client: str) -> Recommendations | Explanation:
        if wish.explain:
            return await worker.large(client, service.explain, user, wish.top)
        # What is remembered need not wait for the model, which may be at work for someone else.
        return service.remembered(user, wish.top) or await worker.small(service.recommend, user, wish.top)

    @app.get("/explain", response_model=Explanation, summary="Reasons for a user's best items, or for one item")
    async def get_explain(request: Request, user: _User, item: _Item = None, top: _Top = 3) -> Response:
        if item is not None:
            return answer(await worker.large(_client(request), service.explain_pair, user, item))
        _check_explained(top)
        return answer(await worker.large(_client(request), service.explain, user, top))

    pages: dict[str, Page] = {"/": start_page(health), "/docs": docs_page(app.openapi(), max_body)}

    def shown(page: Page) -> Callable[[], Any]:
        async def show() -> Response:
            return HTMLResponse(page.html, headers={"content-security-policy": page.policy})

        return show

    for path, page in pages.items():
        app.get(path, include_in_schema=False)(shown(page))
    return Guard(app, hosts, max_body)


def _client(request: Request) -> str:
    """Address of whoever asks."""
    return request.client.host if request.client else ""


def _check_explained(number: int) -> None:
    if number > limits.MAX_EXPLAINED:
        raise DataError(f"top: at most {limits.MAX_EXPLAINED} recommendations are explained at once, not {number}")
