"""The baseline of `home_read_cpu_ratio`: the minimum that can serve a home read.

One FastAPI process that checks the token, makes the two Redis calls of a home read (20 ids of a sorted set,
20 tweets by MGET) and returns the tweets. No gateway, no mesh, no completeness check, no followings.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
import orjson
import redis.asyncio
import uvicorn
from fastapi import FastAPI, Header, HTTPException
from fastapi.responses import Response

SECRET = os.environ.get("BARE_SECRET", "x" * 32)


def application(redis_url: str, prefix: str) -> FastAPI:
    """Return the app; `prefix` of its Redis keys."""
    client = redis.asyncio.from_url(redis_url)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await client.aclose()

    app = FastAPI(lifespan=lifespan)

    @app.get("/2/users/{user_id}/timelines/reverse_chronological")
    async def home(user_id: int, authorization: str = Header()) -> Response:
        try:
            jwt.decode(authorization.removeprefix("Bearer "), SECRET, algorithms=["HS256"])
        except jwt.PyJWTError:
            raise HTTPException(401) from None
        ids: list[Any] = list(await client.zrevrange(f"{prefix}home:{user_id}", 0, 19))
        rows: list[Any] = await client.mget([f"{prefix}tweet:{i.decode()}" for i in ids])
        data = [orjson.loads(row) for row in rows if row]
        return Response(orjson.dumps({"data": data, "meta": {"result_count": len(data)}}), media_type="application/json")

    return app


def main() -> None:
    """Serve on BARE_LISTEN (host:port) with the Redis of BARE_REDIS."""
    host, _, port = os.environ["BARE_LISTEN"].rpartition(":")
    app = application(os.environ["BARE_REDIS"], os.environ.get("BARE_PREFIX", "bare:"))
    uvicorn.run(app, host=host, port=int(port), access_log=False, log_level="warning", loop="uvloop", http="httptools")


if __name__ == "__main__":
    main()
