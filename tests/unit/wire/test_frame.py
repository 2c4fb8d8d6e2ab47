"""Headers: which version goes with which API, and what is refused."""

import pytest

from ottla.wire import DecodeError, decode
from ottla.wire.apis import API_SPECS, ApiKey
from ottla.wire.frame import (
    RequestHeader,
    encode_request,
    encode_response,
    read_request_header,
    read_response_header,
    response_header,
)
from ottla.wire.messages.api_versions_request import ApiVersionsRequest
from ottla.wire.messages.heartbeat_response import HeartbeatResponse
from ottla.wire.messages.metadata_request import MetadataRequest


@pytest.mark.parametrize("client_id", [None, "", "producer-1", "žluť"])
@pytest.mark.parametrize("version", [0, 8, 9, 13])
def test_a_request_comes_back(client_id: str | None, version: int) -> None:
    request = MetadataRequest(topics=[])
    header = RequestHeader(ApiKey.METADATA, version, 0x7FFF0001, client_id)
    frame = encode_request(header, request)
    assert int.from_bytes(frame[:4]) == len(frame) - 4
    for body in (frame[4:], bytearray(frame[4:]), memoryview(frame)[4:]):
        again, position = read_request_header(body)
        assert again == header
        assert decode(MetadataRequest, body[position:], version) == request


def test_the_flexible_header_carries_tagged_fields() -> None:
    flexible = b"\0\x12\0\x03\0\0\0\x07\0\x01c" + b"\x01\x63\x02xy" + b"\x01\x01\x00"
    header, position = read_request_header(flexible)
    assert header == RequestHeader(18, 3, 7, "c")
    assert decode(ApiVersionsRequest, flexible[position:], 3) == ApiVersionsRequest()


def test_unknown_keys_and_versions_still_give_a_header() -> None:
    """The one who reads it decides what to answer: ApiVersions of the future gets an answer, others a closed door."""
    assert read_request_header(b"\x7f\xff\0\x01\0\0\0\x07\xff\xff")[0] == RequestHeader(32_767, 1, 7, None)
    assert read_request_header(b"\0\x12\0\x63\0\0\0\x07\xff\xff\0")[0] == RequestHeader(18, 99, 7, None)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\0\x12\0\x03\0\0\0\x07\xff",
        b"\0\x12\0\x03\0\0\0\x07\xff\xfe\0",
        b"\0\x12\0\x03\0\0\0\x07\0\x05abc",
        b"\0\x12\0\x03\0\0\0\x07\0\x01\xff\0",
        b"\0\x12\0\x03\0\0\0\x07\0\x01c",
        b"\0\x12\0\x03\0\0\0\x07\0\x01c\x05",
        b"\0\x12\0\x03\0\0\0\x07\0\x01c\x80\x80\x80\x80\x80\x01",
        b"\0\x12\0\x03\0\0\0\x07\0\x01c\xff\xff\xff\xff\x0f",
    ],
)
def test_broken_headers_are_refused(frame: bytes) -> None:
    with pytest.raises(DecodeError):
        read_request_header(frame)


def test_response_headers() -> None:
    assert response_header(ApiKey.METADATA, 8, 5) == b"\0\0\0\5"
    assert response_header(ApiKey.METADATA, 9, 5) == b"\0\0\0\5\0"
    assert response_header(ApiKey.API_VERSIONS, 4, 5) == b"\0\0\0\5"
    assert read_response_header(ApiKey.METADATA, 9, b"\0\0\0\5\1\x63\0rest") == (5, 7)
    assert read_response_header(ApiKey.API_VERSIONS, 4, b"\0\0\0\5rest") == (5, 4)
    for version, broken in ((0, b"\0\0\0"), (9, b"\0\0\0\1"), (9, b"\0\0\0\1\2")):
        with pytest.raises(DecodeError):
            read_response_header(ApiKey.METADATA, version, broken)


def test_a_response_frame() -> None:
    segments = encode_response(ApiKey.HEARTBEAT, 4, 3, HeartbeatResponse(error_code=27))
    assert segments == [b"\0\0\0\x0c\0\0\0\3\0\0\0\0\0\0\x1b\0"]


@pytest.mark.parametrize(
    ("key", "oldest", "newest", "headers"),
    [
        # api key, versions, header versions of request and response at the newest and the oldest version
        (ApiKey.PRODUCE, 3, 13, ((2, 1), (1, 0))),
        (ApiKey.SASL_HANDSHAKE, 0, 1, ((1, 0), (1, 0))),
        (ApiKey.API_VERSIONS, 0, 4, ((2, 0), (1, 0))),
        (ApiKey.WRITE_TXN_MARKERS, 1, 2, ((2, 1), (2, 1))),
        (ApiKey.OFFSET_DELETE, 0, 0, ((1, 0), (1, 0))),
        (ApiKey.INIT_PRODUCER_ID, 0, 6, ((2, 1), (1, 0))),
        (ApiKey.LIST_CONFIG_RESOURCES, 0, 1, ((2, 1), (2, 1))),
    ],
)
def test_the_table_says_what_kafka_says(
    key: ApiKey, oldest: int, newest: int, headers: tuple[tuple[int, int], ...]
) -> None:
    spec = API_SPECS[key]
    assert (spec.lowest, spec.highest) == (oldest, newest)
    for version, wanted in zip((newest, oldest), headers, strict=True):
        answer = len(response_header(key, version, 0)) - len(b"\0\0\0\0")
        assert (spec.request_header_version(version), answer) == wanted


def test_the_table_as_a_whole() -> None:
    assert len(ApiKey) == 93
    assert set(ApiKey) - set(API_SPECS) == {
        ApiKey.LEADER_AND_ISR,
        ApiKey.STOP_REPLICA,
        ApiKey.UPDATE_METADATA,
        ApiKey.CONTROLLED_SHUTDOWN,
    }
    assert API_SPECS[ApiKey.PRODUCE].advertised_lowest == 0
    assert API_SPECS[ApiKey.INIT_PRODUCER_ID].latest_stable == 5
    assert API_SPECS[ApiKey.FETCH].listeners == {"broker", "controller"}
    for key, spec in API_SPECS.items():
        request, response = spec.load()
        assert (key, key) == (request.API_KEY, response.API_KEY)
        assert request.__name__ == f"{spec.name}Request"
        assert (spec.lowest, spec.highest) == (request.LOWEST_VERSION, request.HIGHEST_VERSION)
        assert request.LATEST_STABLE_VERSION == response.LATEST_STABLE_VERSION == spec.latest_stable
