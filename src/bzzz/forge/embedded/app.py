"""The forge's ASGI app: the API below ``/api/v3``, git at ``/{owner}/{name}.git``, pages for people elsewhere.

Served alone, its lifespan starts the background work. Mounted in another app, that app's lifespan does:
``async with app.state.forge.running(): ...`` (a mounted app's own lifespan is never run).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route

from bzzz.forge.embedded import api_git, api_hook, api_issue, api_pull, api_repository, page
from bzzz.forge.embedded.account import Scope
from bzzz.forge.embedded.call import Answer, Call, Endpoint, Handler, RateLimit
from bzzz.forge.embedded.forge import EmbeddedForge
from bzzz.forge.embedded.refusal import not_found
from bzzz.forge.embedded.setting import EmbeddedForgeSettings
from bzzz.forge.embedded.smart import SmartHttp


def create_forge(settings: EmbeddedForgeSettings, forge: EmbeddedForge | None = None) -> Starlette:
    """Make the app; ``app.state.forge`` is its ``EmbeddedForge``.

    Args:
        settings: as the forge's; ``base_url`` is where this app will be reached, a mount's path included.
        forge: an existing forge to serve; one is made where it is ``None``.

    Raises:
        UsageError: as for ``EmbeddedForge``.
    """
    served = forge or EmbeddedForge(settings)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with served.running():
            yield

    limit = RateLimit(served.settings.rate_limit_per_hour)

    def rate_limit(call: Call) -> Answer:
        _, told = limit.spend(call.actor.token_id, call.forge.wall_s(), 0)
        core = {key.rpartition("-")[2].lower(): int(told[key]) for key in told if key != "X-RateLimit-Resource"}
        return Answer({"resources": {"core": core}, "rate": core})

    def nothing(_call: Call) -> Answer:
        raise not_found()

    def route(method: str, path: str, scope: Scope, handler: Handler, *, free: bool = False) -> Route:
        endpoint = Endpoint(served, limit, handler, scope, free=free)
        return Route(f"/api/v3{path}", endpoint.__call__, methods=[method])

    parts = (api_repository, api_git, api_hook, api_issue, api_pull)
    every = [each for part in parts for each in part.ROUTES]
    git = SmartHttp(served)
    routes: list[BaseRoute] = [
        route("GET", "/rate_limit", Scope.NONE, rate_limit, free=True),
        *(route(*each) for each in every),
        Route("/api/v3", Endpoint(served, limit, api_repository.root, Scope.NONE, free=False).__call__),
        Route(
            "/api/v3/{rest:path}",
            Endpoint(served, limit, nothing, Scope.NONE, free=False).__call__,
            methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        ),
        Route("/{owner}/{name}.git/info/refs", git),
        Route("/{owner}/{name}.git/{service}", git),
        *page.routes(served),
    ]
    app = Starlette(routes=routes, lifespan=lifespan)
    app.state.forge = served
    return app
