"""ApiVersions (18), versions 0-4: what this listener serves, and the features of the cluster.

v3+: the client names its software, which is checked as Apache Kafka checks it (INVALID_REQUEST); the answer carries the
features this broker supports and those the cluster has finalized. Below v4 features that reach down to level 0 are left
out, because clients of that time cannot read them. An unknown version is answered in v0 (see ``broker.dispatch``).
"""

import re
from collections.abc import Callable, Mapping

from msgspec import Struct, field

from ottla.broker.context import RequestContext
from ottla.broker.dispatch import Route, Written
from ottla.metadata.image import ClusterImage
from ottla.wire.apis import ApiKey
from ottla.wire.errors import ErrorCode
from ottla.wire.messages.api_versions_request import ApiVersionsRequest
from ottla.wire.messages.api_versions_response import (
    ApiVersion,
    ApiVersionsResponse,
    FinalizedFeatureKey,
    SupportedFeatureKey,
)
from ottla.wire.mold import FixedAnswer

SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")


class ApiVersionsHandler(Struct, frozen=True, kw_only=True):
    """``supported_features`` maps a feature to the lowest and highest level this broker can run."""

    routes: Mapping[int, Route]
    image: Callable[[], ClusterImage]
    supported_features: Mapping[str, tuple[int, int]]
    _written: dict[int, tuple[ClusterImage, FixedAnswer]] = field(default_factory=dict)
    """By version, and the image it was written of: every connection begins with this question."""

    def handle(self, context: RequestContext, request: ApiVersionsRequest) -> ApiVersionsResponse | Written:
        version = context.api_version
        if version >= 3 and not (
            SOFTWARE.fullmatch(request.client_software_name) and SOFTWARE.fullmatch(request.client_software_version)
        ):
            return ApiVersionsResponse(error_code=ErrorCode.INVALID_REQUEST)
        image = self.image()
        known = self._written.get(version)
        if known is None or known[0] is not image:
            if known is not None:
                self._written.clear()
            answer = FixedAnswer(ApiKey.API_VERSIONS, version, self._answer(image, version))
            known = self._written[version] = image, answer
        return Written([known[1].write(context.header.correlation_id)])

    def _answer(self, image: ClusterImage, version: int) -> ApiVersionsResponse:
        return ApiVersionsResponse(
            api_keys=[row(route) for _, route in sorted(self.routes.items())],
            supported_features=[
                SupportedFeatureKey(name=name, min_version=lowest, max_version=highest)
                for name, (lowest, highest) in sorted(self.supported_features.items())
                if version >= 4 or lowest > 0
            ],
            finalized_features_epoch=image.provenance.offset,
            finalized_features=[
                FinalizedFeatureKey(name=name, min_version_level=level, max_version_level=level)
                for name, level in sorted(image.features.items())
                if level > 0
            ],
        )


def row(route: Route) -> ApiVersion:
    return ApiVersion(api_key=route.api_key, min_version=route.advertised_min, max_version=route.max_version)
