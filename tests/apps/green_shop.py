"""A Flask app that gevent, or eventlet, patches while it is imported: never to be imported by the tests themselves."""

import os
import warnings

if os.environ.get("GREEN") == "eventlet":
    warnings.simplefilter("ignore")  # it is deprecated
    import eventlet

    eventlet.monkey_patch()
else:
    from gevent import monkey

    monkey.patch_all()

import threading
import time

from flask import Flask, Response, request

app = Flask(__name__)
app.config["PROPAGATE_EXCEPTIONS"] = True
items: list[str] = []
two = threading.Barrier(2)


@app.get("/")
def hello() -> str:
    print("printed")
    return "hello"


@app.get("/meet")
def meet() -> str:
    two.wait(30)
    return "met"


@app.get("/stream")
def stream() -> Response:
    def chunks():
        for _ in range(5):
            time.sleep(0)  # lets others run
            yield bytes(100_000)

    return Response(chunks())


@app.post("/echo")
def echo() -> bytes:
    return request.stream.read()


@app.get("/boom")
def boom() -> str:
    raise LookupError("boom")


@app.get("/stuck")
def stuck() -> str:
    threading.Event().wait()
    return "never"


@app.post("/items")
def add() -> list[str]:
    items.append("tea")
    return items


def reset() -> None:
    items.clear()
