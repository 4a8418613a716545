"""Clients of services that are no fakes of ours: AWS by moto, and the SDKs of OpenAI, Anthropic and Stripe.

They are large: `tox -e systems` has them, and elsewhere these tests are skipped.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from flask import Flask, Response, request

from socketless import IpcProcess, switch_to_ipc_connection
from socketless.fakes import FakeApp
from support import nothing_leaks

REASON = "a large package; `tox -e systems` has it"

boto3 = pytest.importorskip("boto3", reason=REASON)
moto_server = pytest.importorskip("moto.server", reason=REASON)
aiobotocore = pytest.importorskip("aiobotocore.session", reason=REASON)
openai = pytest.importorskip("openai", reason=REASON)
anthropic = pytest.importorskip("anthropic", reason=REASON)
stripe = pytest.importorskip("stripe", reason=REASON)

pytestmark = pytest.mark.filterwarnings("default")  # of these packages

KEYS = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "us-east-1"}


def aws() -> Any:
    """Return moto's server as an app: all services of AWS, each at its host."""
    return moto_server.DomainDispatcherApplication(moto_server.create_backend_app)


AWS = f"{__name__}:aws()"


@pytest.fixture(params=["threads", "process"])
def amazon(request: Any, monkeypatch: Any) -> Iterator[Any]:
    """All hosts of AWS are moto's, on threads or in a process; the clients need to know nothing of it."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    app = aws() if request.param == "threads" else AWS
    with nothing_leaks(), switch_to_ipc_connection({"*.amazonaws.com": app}, others="refuse") as switch:
        yield switch
        httpx.post("https://motoapi.amazonaws.com/moto-api/reset")  # which closes moto's files


def test_boto3(amazon: Any) -> None:
    """boto3 stores and lists objects in S3, large ones in parts too, and sends messages, with its own URLs."""
    s3 = boto3.client("s3", **KEYS)
    s3.create_bucket(Bucket="shop")
    s3.put_object(Bucket="shop", Key="tea", Body=b"green")
    assert s3.get_object(Bucket="shop", Key="tea")["Body"].read() == b"green"
    upload = s3.create_multipart_upload(Bucket="shop", Key="cake")
    part = {"Bucket": "shop", "Key": "cake", "UploadId": upload["UploadId"]}
    tag = s3.upload_part(PartNumber=1, Body=b"x" * 6_000_000, **part)["ETag"]
    s3.complete_multipart_upload(MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": tag}]}, **part)
    found = s3.list_objects_v2(Bucket="shop")["Contents"]
    assert [(each["Key"], each["Size"]) for each in found] == [("cake", 6_000_000), ("tea", 5)]
    url = s3.generate_presigned_url("get_object", {"Bucket": "shop", "Key": "tea"})
    assert httpx.get(url).content == b"green"
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket="shop", Key="coffee")
    s3.close()


def test_aiobotocore(amazon: Any) -> None:
    """aiobotocore does so by aiohttp."""

    async def main() -> bytes:
        async with aiobotocore.get_session().create_client("s3", **KEYS) as s3:
            await s3.create_bucket(Bucket="shop")
            await s3.put_object(Bucket="shop", Key="tea", Body=b"green")
            async with (await s3.get_object(Bucket="shop", Key="tea"))["Body"] as body:
                return bytes(await body.read())

    assert asyncio.run(main()) == b"green"


models = Flask(__name__)


@models.post("/v1/chat/completions")
def complete() -> Any:
    """Say the words of the prompt, as OpenAI does."""
    asked = request.get_json()
    about = {"id": "1", "created": 1, "model": asked["model"]}
    words = asked["messages"][0]["content"].split()

    def events() -> Iterator[str]:
        for word in words:
            choice = {"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}
            yield f"data: {json.dumps({**about, 'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"
        yield "data: [DONE]\n\n"

    if asked.get("stream"):
        return Response(events(), content_type="text/event-stream")
    choice = {"index": 0, "message": {"role": "assistant", "content": " ".join(words)}, "finish_reason": "stop"}
    return {**about, "object": "chat.completion", "choices": [choice]}


@models.post("/v1/messages")
def message() -> Any:
    """Say the words of the prompt, as Anthropic does."""
    asked = request.get_json()
    about = {"id": "1", "type": "message", "role": "assistant", "model": asked["model"], "content": []}
    about |= {"stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
    events = [
        ("message_start", {"message": about}),
        ("content_block_start", {"content_block": {"type": "text", "text": ""}}),
    ]
    events += [
        ("content_block_delta", {"delta": {"type": "text_delta", "text": word}})
        for word in asked["messages"][0]["content"].split()
    ]
    events += [
        ("content_block_stop", {}),
        ("message_delta", {"delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}),
    ]
    events += [("message_stop", {})]

    def stream() -> Iterator[str]:
        for name, data in events:
            yield f"event: {name}\ndata: {json.dumps({'type': name, 'index': 0, **data})}\n\n"

    return Response(stream(), content_type="text/event-stream")


PROMPT: Any = {"model": "any", "messages": [{"role": "user", "content": "hello dear world"}]}


@pytest.fixture(params=["threads", "process"])
def ai(request: Any) -> Iterator[Any]:
    """One app is both services."""
    app: Any = models if request.param == "threads" else f"{__name__}:models"
    apps = {"api.openai.com": app, "api.anthropic.com": app}
    with nothing_leaks(), switch_to_ipc_connection(apps, others="refuse") as switch:
        yield switch


def test_openai(ai: Any) -> None:
    """The client of OpenAI asks, and reads a stream of events, sync and async."""
    with openai.OpenAI(api_key="x") as client:
        answer = client.chat.completions.create(**PROMPT)
        assert answer.choices[0].message.content == "hello dear world"
        with client.chat.completions.create(**PROMPT, stream=True) as stream:
            assert [event.choices[0].delta.content for event in stream] == ["hello", "dear", "world"]

    async def main() -> list[str]:
        async with openai.AsyncOpenAI(api_key="x") as client:
            async with await client.chat.completions.create(**PROMPT, stream=True) as stream:
                return [event.choices[0].delta.content async for event in stream]

    assert asyncio.run(main()) == ["hello", "dear", "world"]


def test_anthropic(ai: Any) -> None:
    """So does that of Anthropic."""
    with anthropic.Anthropic(api_key="x") as client, client.messages.stream(**PROMPT, max_tokens=9) as stream:
        assert list(stream.text_stream) == ["hello", "dear", "world"]

    async def main() -> list[str]:
        async with anthropic.AsyncAnthropic(api_key="x") as client:
            async with client.messages.stream(**PROMPT, max_tokens=9) as stream:
                return [text async for text in stream.text_stream]

    assert asyncio.run(main()) == ["hello", "dear", "world"]


def test_stripe() -> None:
    """The client of Stripe gets what a handler answers, and raises its own errors."""

    def handler(request: httpx.Request) -> httpx.Response:
        if b"tok_bad" in request.content:
            return httpx.Response(402, json={"error": {"type": "card_error", "code": "card_declined", "message": "no"}})
        return httpx.Response(200, json={"id": "ch_1", "object": "charge", "paid": True})

    fake = FakeApp(handler)
    with nothing_leaks(), switch_to_ipc_connection({"api.stripe.com": fake}, others="refuse"):
        client = stripe.StripeClient("sk_test_x", max_network_retries=0)
        charges = getattr(client, "v1", client).charges
        assert charges.create({"amount": 100, "currency": "eur", "source": "tok_visa"}).paid is True
        with pytest.raises(stripe.CardError, match="no"):
            charges.create({"amount": 100, "currency": "eur", "source": "tok_bad"})
        assert [each.url.path for each in fake.requests] == ["/v1/charges"] * 2


def test_other_hosts_are_refused(amazon: Any) -> None:
    """A service that is not among the apps is refused, in the error of its client."""
    with pytest.raises(openai.APIConnectionError), openai.OpenAI(api_key="x", max_retries=0) as client:
        client.chat.completions.create(**PROMPT)


def test_worker_of_amazon() -> None:
    """A worker that is given has options of its own, here its environment."""
    with IpcProcess(AWS, env={"MOTO_ACCOUNT_ID": "111111111111"}) as worker:
        with switch_to_ipc_connection({"*.amazonaws.com": worker}, others="refuse"):
            sts = boto3.client("sts", **KEYS)
            assert sts.get_caller_identity()["Account"] == "111111111111"
            sts.close()
