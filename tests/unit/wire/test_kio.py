"""Against kio, an independent implementation: both write the same bytes for the requests and responses both know."""

import io
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from ottla.wire import decode, encode
from ottla.wire.apis import API_SPECS

pytest.importorskip("kio", reason="kio is in the dev extra")

from kio.index import load_request_schema, load_response_schema
from kio.serial import entity_reader, entity_writer


@pytest.mark.parametrize("api_key", sorted(API_SPECS))
def test_kio_reads_our_frames_and_writes_them_alike(api_key: int, sample: Callable[..., Any]) -> None:
    spec = API_SPECS[api_key]
    compared = 0
    for cls, find in zip(spec.load(), (load_request_schema, load_response_schema), strict=True):
        for version in range(cls.LOWEST_VERSION, cls.HIGHEST_VERSION + 1):
            try:
                entity = find(api_key, version)
            except Exception as unknown:
                if "Unknown" in type(unknown).__name__:
                    continue
                raise
            for seed in range(4):
                compare(cls, version, entity, sample(cls.__name__, version, Random(seed), tame=True))
                compared += 1
    if not compared:
        pytest.skip(f"kio does not know {spec.name}")


def compare(cls: type[Any], version: int, entity: Any, message: Any) -> None:
    frame = encode(message, version)
    theirs, size = entity_reader(entity)(frame, 0)
    assert size == len(frame)
    buffer = io.BytesIO()
    entity_writer(entity)(buffer, theirs)
    assert buffer.getvalue() == frame, (cls.__name__, version)
    assert decode(cls, buffer.getvalue(), version) == message
