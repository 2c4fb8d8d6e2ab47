"""DescribeCluster (60), versions 0-2: cluster id, live brokers, and a broker that takes the controller's requests.

v1+: asked for the controllers' endpoints, a broker answers MISMATCHED_ENDPOINT_TYPE. v2: may include fenced brokers.
"""

from collections.abc import Callable

from msgspec import Struct

from ottla.broker.cluster_view import CLUSTER_OPERATIONS, brokers_on, contact_id
from ottla.broker.context import RequestContext
from ottla.metadata.image import ClusterImage
from ottla.wire.errors import ErrorCode
from ottla.wire.messages.describe_cluster_request import DescribeClusterRequest
from ottla.wire.messages.describe_cluster_response import DescribeClusterBroker, DescribeClusterResponse

_BROKERS, _CONTROLLERS = 1, 2


class DescribeClusterHandler(Struct, frozen=True, kw_only=True):
    node_id: int
    cluster_id: str
    image: Callable[[], ClusterImage]

    def handle(self, context: RequestContext, request: DescribeClusterRequest) -> DescribeClusterResponse:
        if request.endpoint_type != _BROKERS:
            return _refused(request.endpoint_type)
        image = self.image()
        response = DescribeClusterResponse(
            cluster_id=self.cluster_id,
            controller_id=contact_id(image, self.node_id),
            brokers=[
                DescribeClusterBroker(
                    broker_id=broker.broker_id,
                    host=endpoint.host,
                    port=endpoint.port,
                    rack=broker.rack,
                    is_fenced=broker.fenced,
                )
                for broker, endpoint in brokers_on(image, context.listener_name)
                if request.include_fenced_brokers or not broker.fenced
            ],
        )
        if request.include_cluster_authorized_operations:
            response.cluster_authorized_operations = CLUSTER_OPERATIONS
        return response


def _refused(endpoint_type: int) -> DescribeClusterResponse:
    if endpoint_type == _CONTROLLERS:
        code = ErrorCode.MISMATCHED_ENDPOINT_TYPE
        message = "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER"
    else:
        code = ErrorCode.UNSUPPORTED_ENDPOINT_TYPE
        message = f"Unsupported endpoint type {endpoint_type}"
    return DescribeClusterResponse(error_code=int(code), error_message=message)
