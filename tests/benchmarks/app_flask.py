"""The least that Flask can say. A module for each framework, so that starting a worker imports only one."""

from __future__ import annotations

import time

from flask import Flask, request

app = Flask(__name__)


@app.get("/")
def home() -> dict[str, str]:
    return {"hello": "world"}


@app.post("/echo")
def echo() -> bytes:
    return request.get_data()


@app.get("/sleep")
def sleep() -> str:
    time.sleep(0.02)
    return "slept"
