"""A small library in FastAPI: lifespan, dependencies, background tasks, forms, sync and async routes."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import (
    BackgroundTasks,
    Cookie,
    Depends,
    FastAPI,
    File,
    Form,
    Header,
    HTTPException,
    Request,
    Response,
    UploadFile,
)
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field

Questions = asyncio.Queue[asyncio.Future[int]]

_lock = threading.Lock()
_books: dict[int, Book] = {}  # guarded by _lock
_audit: list[str] = []
_reader: contextvars.ContextVar[str] = contextvars.ContextVar("reader", default="nobody")


class Book(BaseModel):
    """A book as clients send it."""

    title: str = Field(min_length=1)
    year: int = 2000
    tags: list[str] = []


class Lent(Exception):
    """The book is away."""


def reset_state() -> None:
    """Forget all books and the audit trail."""
    with _lock:
        _books.clear()
        _audit.clear()


async def reset_async() -> None:
    """Do as `reset_state()`, in the event loop, and note it."""
    await asyncio.sleep(0)
    reset_state()
    _audit.append(f"reset in {threading.current_thread().name}")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    questions: Questions = asyncio.Queue()
    task = asyncio.create_task(_answer(questions))
    yield {"started": True, "questions": questions}
    task.cancel()
    print("the library closes")


async def _answer(questions: Questions) -> None:
    """Answer questions for as long as the app lives, as a pool or a consumer would."""
    for number in itertools.count(1):
        (await questions.get()).set_result(number)


app = FastAPI(title="Library", version="1.2", lifespan=lifespan)


@app.exception_handler(Lent)
async def answer_lent(request: Request, error: Lent) -> JSONResponse:
    return JSONResponse({"lent": str(error)}, status_code=423)


@app.middleware("http")
async def add_header(request: Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    response.headers["x-path"] = request.url.path
    return response


def trail() -> Iterator[list[str]]:
    """A dependency that is set up before a route and torn down after it, in a thread."""
    _audit.append("trail opened")
    try:
        yield _audit
    finally:
        _audit.append("trail closed")


async def reader(x_reader: Annotated[str | None, Header()] = None) -> AsyncIterator[str]:
    """A dependency that sets a context variable for the time of the request."""
    if x_reader is not None:
        _reader.set(x_reader)
    yield _reader.get()


def known_reader(name: Annotated[str, Depends(reader)]) -> str:
    """A dependency of a dependency."""
    if name == "nobody":
        raise HTTPException(401, "who are you?", headers={"WWW-Authenticate": "X-Reader"})
    return name


@app.get("/state")
async def read_state(request: Request) -> dict[str, Any]:
    return {"started": request.state.started}


@app.get("/question")
async def ask(request: Request) -> int:
    """Return how many questions there were, by way of a task that the lifespan has started."""
    answer = asyncio.get_running_loop().create_future()
    await request.state.questions.put(answer)
    return int(await answer)


@app.post("/books", status_code=201)
def add_book(book: Book, tasks: BackgroundTasks, name: Annotated[str, Depends(known_reader)]) -> dict[str, Any]:
    with _lock:
        number = len(_books) + 1
        _books[number] = book
    tasks.add_task(_note, f"{name} added {book.title}")
    tasks.add_task(_note_async, f"{len(_books)} in all")
    return {"id": number, **book.model_dump()}


def _note(text: str) -> None:
    _audit.append(text)


async def _note_async(text: str) -> None:
    await asyncio.sleep(0)
    _audit.append(text)


@app.get("/books")
async def list_books(skip: int = 0, limit: Annotated[int, Field(le=100)] = 10) -> list[Book]:
    return [_books[number] for number in sorted(_books)][skip : skip + limit]


@app.get("/books/{number}")
def read_book(number: int) -> Book:
    if number not in _books:
        raise HTTPException(404, f"no book {number}")
    return _books[number]


@app.delete("/books/{number}", status_code=204)
async def delete_book(number: int) -> None:
    with _lock:
        del _books[number]


@app.post("/books/{number}/lend")
async def lend_book(number: int) -> None:
    raise Lent(_books[number].title)


@app.get("/audit")
async def read_audit() -> list[str]:
    return _audit


@app.get("/trail")
def read_trail(entries: Annotated[list[str], Depends(trail)]) -> int:
    return len(entries)


@app.get("/where/sync")
def where_sync(name: Annotated[str, Depends(reader)]) -> dict[str, str]:
    return {"thread": threading.current_thread().name, "dependency": name, "context": _reader.get()}


@app.get("/where/async")
async def where_async(name: Annotated[str, Depends(reader)]) -> dict[str, str]:
    return {"thread": threading.current_thread().name, "dependency": name, "context": _reader.get()}


_barrier = threading.Barrier(4)


@app.get("/meet")
def meet() -> int:
    """Return once four requests are here at the same time."""
    _barrier.wait(timeout=30)
    return _barrier.parties


@app.post("/form")
async def read_form(name: Annotated[str, Form()], age: Annotated[int, Form()]) -> dict[str, Any]:
    return {"name": name, "age": age}


@app.post("/upload")
async def upload(file: UploadFile, comment: Annotated[str, Form()] = "") -> dict[str, Any]:
    content = await file.read()
    return {"filename": file.filename, "type": file.content_type, "size": len(content), "comment": comment}


@app.post("/upload-bytes")
def upload_bytes(file: Annotated[bytes, File()]) -> int:
    return len(file)


@app.get("/cookie")
async def count_by_cookie(response: Response, count: Annotated[int, Cookie()] = 0) -> int:
    response.set_cookie("count", str(count + 1), httponly=True)
    return count


@app.get("/lines")
async def stream_lines(count: int) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        for number in range(count):
            yield f"line {number}\n"

    return StreamingResponse(lines(), media_type="text/plain")


@app.get("/crash")
async def crash() -> None:
    raise LookupError("nobody handles this")
