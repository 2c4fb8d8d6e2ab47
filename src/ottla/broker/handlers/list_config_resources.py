"""ListConfigResources (74), versions 0-1: whose configuration can be described.

v0 lists client metrics subscriptions; v1 any of topics, brokers, their loggers, client metrics and groups, by default
all of them. Another type is UNSUPPORTED_VERSION. Subscriptions and groups are there once they have settings.
"""

from collections.abc import Callable, Iterator

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.metadata.image import ClusterImage, ResourceType
from ottla.wire.errors import ErrorCode
from ottla.wire.messages.list_config_resources_request import ListConfigResourcesRequest
from ottla.wire.messages.list_config_resources_response import ConfigResource, ListConfigResourcesResponse


class ListConfigResourcesHandler(Struct, frozen=True, kw_only=True):
    image: Callable[[], ClusterImage]

    def handle(self, context: RequestContext, request: ListConfigResourcesRequest) -> ListConfigResourcesResponse:
        known = [int(resource_type) for resource_type in ResourceType]
        asked = request.resource_types or known
        if context.api_version == 0:
            asked = [int(ResourceType.CLIENT_METRICS)]
        if any(resource_type not in known for resource_type in asked):
            return ListConfigResourcesResponse(error_code=int(ErrorCode.UNSUPPORTED_VERSION))
        image = self.image()
        return ListConfigResourcesResponse(
            config_resources=[
                ConfigResource(resource_name=name, resource_type=resource_type)
                for resource_type in dict.fromkeys(asked)
                for name in _names(image, resource_type)
            ]
        )


def _names(image: ClusterImage, resource_type: int) -> Iterator[str]:
    match resource_type:
        case ResourceType.TOPIC:
            yield from image.topics
        case ResourceType.BROKER | ResourceType.BROKER_LOGGER:
            yield from (str(broker.broker_id) for broker in image.active_brokers())
        case _:
            yield from (resource.name for resource in image.configs if resource.type == resource_type)
