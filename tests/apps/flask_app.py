"""A small shop in Flask: JSON on a dict, async views, sessions, uploads, error handlers."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    current_app,
    jsonify,
    make_response,
    redirect,
    render_template_string,
    request,
    session,
    url_for,
)
from flask.typing import ResponseReturnValue

shop = Blueprint("shop", __name__)

_lock = threading.Lock()
_items: dict[str, dict[str, Any]] = {}  # guarded by _lock
_visitor: contextvars.ContextVar[str] = contextvars.ContextVar("visitor", default="nobody")

_PAGE = """<!doctype html>
<title>{{ title }}</title>
<ul>
{%- for name in names %}
<li><a href="{{ url_for('shop.read_item', name=name) }}">{{ name }}</a>
{%- endfor %}
</ul>
"""


class OutOfStock(Exception):
    """Nothing is left of an item."""


def reset_state() -> None:
    """Forget all items."""
    with _lock:
        _items.clear()


@shop.get("/name")
def read_name() -> str:
    return str(current_app.config["SHOP_NAME"])


@shop.get("/items")
def list_items() -> ResponseReturnValue:
    return jsonify(items=[{"name": name, **_items[name]} for name in sorted(_items)])


@shop.put("/items/<name>")
def write_item(name: str) -> ResponseReturnValue:
    with _lock:
        is_new = name not in _items
        _items[name] = request.get_json()
    return jsonify(name=name, **_items[name]), 201 if is_new else 200


@shop.get("/items/<name>")
def read_item(name: str) -> ResponseReturnValue:
    return jsonify(name=name, **_find(name))


@shop.patch("/items/<name>")
def change_item(name: str) -> ResponseReturnValue:
    _find(name).update(request.get_json())
    return jsonify(name=name, **_items[name])


@shop.delete("/items/<name>")
def delete_item(name: str) -> ResponseReturnValue:
    _find(name)
    with _lock:
        del _items[name]
    return "", 204


@shop.post("/items/<name>/sell")
def sell_item(name: str) -> ResponseReturnValue:
    with _lock:
        item = _find(name)
        if not item["stock"]:
            raise OutOfStock(name)
        item["stock"] -= 1
    return jsonify(name=name, **item)


def _find(name: str) -> dict[str, Any]:
    return _items[name] if name in _items else abort(404)


def answer_out_of_stock(error: OutOfStock) -> ResponseReturnValue:
    return jsonify(error=f"no {error} is left"), 409


@shop.get("/async/items")
async def list_items_async() -> ResponseReturnValue:
    names = await asyncio.gather(*(_upper_later(name) for name in sorted(_items)))
    return jsonify(names=names, thread=await asyncio.to_thread(lambda: threading.current_thread().name[:7]))


async def _upper_later(name: str) -> str:
    await asyncio.sleep(0)
    return name.upper()


@shop.get("/visitor")
def read_visitor() -> str:
    before = _visitor.get()
    if "name" in request.args:
        _visitor.set(request.args["name"])
    return f"{before}, then {_visitor.get()}"


@shop.post("/login")
def login() -> ResponseReturnValue:
    session["user"] = request.form["user"]
    return redirect(url_for("shop.read_user"))


@shop.get("/user")
def read_user() -> ResponseReturnValue:
    return jsonify(user=session.get("user"))


@shop.post("/logout")
def logout() -> ResponseReturnValue:
    session.clear()
    return "", 204


@shop.get("/theme")
def read_theme() -> Response:
    response = make_response(request.cookies.get("theme", "light"))
    response.set_cookie("theme", request.args.get("set", "light"), path="/theme", httponly=True, samesite="Lax")
    response.set_cookie("seen", "yes")
    return response


@shop.post("/upload")
def upload() -> ResponseReturnValue:
    sizes = {file.filename: len(file.read()) for file in request.files.getlist("files")}
    return jsonify(comment=request.form["comment"], sizes=sizes)


@shop.get("/page")
def show_page() -> str:
    return render_template_string(_PAGE, title="Ham & eggs", names=sorted(_items))


@shop.get("/export")
def export() -> Response:
    return Response((f"{name}\n" for name in sorted(_items)), content_type="text/plain; charset=utf-8")


@shop.get("/print")
def print_something() -> str:
    print("a view prints", request.args["text"])
    return "printed"


@shop.get("/crash")
def crash() -> str:
    raise LookupError("nobody handles this")


def create_app(name: str = "app") -> Flask:
    """Return a shop with that name. All shops share their items."""
    app = Flask(__name__)
    app.config.update(SECRET_KEY="secret for tests", SHOP_NAME=name)
    app.register_blueprint(shop)
    app.register_error_handler(OutOfStock, answer_out_of_stock)
    return app


app = create_app()
