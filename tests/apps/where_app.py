"""An app for `tests/test_where.py`, which tests what the table of README.rst says."""

from __future__ import annotations

import contextvars
import logging
import os
import sqlite3
import threading
import warnings

from fastapi import Depends, FastAPI

app = FastAPI()

variable = contextvars.ContextVar("variable", default="not set")
released = threading.Event()
database = sqlite3.connect(":memory:", check_same_thread=False)
database.execute("CREATE TABLE names (name)")


class NoSuchName(Exception):
    """What the app raises."""


def user() -> str:
    return "nobody"


async def current(name: str = Depends(user)) -> str:
    return name


@app.get("/user")
async def show_user(name: str = Depends(current)) -> str:
    return name


@app.get("/cores")
def show_cores() -> int | None:
    return os.cpu_count()


@app.get("/variable")
async def show_variable() -> str:
    return variable.get()


@app.get("/names")
async def show_names() -> list[str]:
    return [name for (name,) in database.execute("SELECT name FROM names")]


@app.get("/say")
async def say() -> None:
    print("printed")
    logging.getLogger("where").warning("logged")
    warnings.warn("warned", UserWarning, stacklevel=1)


@app.get("/boom")
async def boom() -> None:
    raise NoSuchName("bob")


@app.get("/hang")
def hang() -> None:
    released.wait()


@app.get("/exit")
def leave() -> None:
    os._exit(3)


@app.get("/stop-here")
def stop_here() -> str:
    breakpoint()
    return "went on"
