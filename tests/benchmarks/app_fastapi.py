"""The least that FastAPI can say."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response

app = FastAPI()


@app.get("/")
async def home() -> dict[str, str]:
    return {"hello": "world"}


@app.get("/def")
def in_thread() -> dict[str, str]:
    return {"hello": "world"}


@app.post("/echo")
async def echo(request: Request) -> Response:
    return Response(await request.body())
