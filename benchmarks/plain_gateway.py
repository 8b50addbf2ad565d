"""The alternative in the benchmark of callbacks: the official SDK's validator and one awaited produce, in FastAPI."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl

from aiokafka import AIOKafkaProducer
from fastapi import FastAPI, Request, Response
from twilio.request_validator import RequestValidator

ORIGIN = os.environ["BENCH_ORIGIN"]
validator = RequestValidator(os.environ["BENCH_TOKEN"])


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    producer = AIOKafkaProducer(
        bootstrap_servers=os.environ["OFFHOOK_KAFKA_BOOTSTRAP"], acks="all", enable_idempotence=True
    )
    await producer.start()
    app.state.producer = producer
    yield
    await producer.stop()


app = FastAPI(lifespan=lifespan)


@app.get("/readyz")
async def readyz() -> dict[str, bool]:
    return {"ready": True}


@app.post("/api/v1/telephony/status-callback/{run}")
async def status(run: str, request: Request) -> Response:
    form = dict(parse_qsl((await request.body()).decode(), keep_blank_values=True))
    if not validator.validate(ORIGIN + request.url.path, form, request.headers.get("X-Twilio-Signature", "")):
        return Response(status_code=403)
    await app.state.producer.send_and_wait(
        "telephony.call-events.v1", json.dumps(form).encode(), key=run.encode()
    )
    return Response(status_code=204)
