"""UpdateFeatures (57), versions 0-2: raise or lower finalised feature levels; all of a request or none.

v0 says only whether a downgrade is allowed; v1+ tells safe from unsafe ones and may only validate. v0-1 answer each
feature, v2 has one answer for all.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from msgspec import Struct

from ottla.broker.context import RequestContext
from ottla.broker.raft_driver import Command
from ottla.metadata.controller.features import FeatureUpdate, UpgradeType
from ottla.metadata.controller.state import Problem
from ottla.wire.errors import ErrorCode, KafkaError
from ottla.wire.messages.update_features_request import FeatureUpdateKey, UpdateFeaturesRequest
from ottla.wire.messages.update_features_response import UpdatableFeatureResult, UpdateFeaturesResponse


class UpdateFeaturesHandler(Struct, frozen=True, kw_only=True):
    """``submit`` puts a command before the active controller."""

    submit: Callable[[Command], Awaitable[Any]]

    async def handle(self, context: RequestContext, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse:
        names = [update.feature for update in request.feature_updates]
        if len(dict.fromkeys(names)) != len(names):
            problem: Problem | None = Problem(ErrorCode.INVALID_REQUEST, "A feature is updated twice.")
        else:
            updates = [_update(context.api_version, update) for update in request.feature_updates]
            problem = await self._update(updates, request.validate_only)
        response = UpdateFeaturesResponse(error_message=None)
        if problem is not None:
            response.error_code, response.error_message = int(problem.code), problem.message
        elif context.api_version < 2:
            response.results = [UpdatableFeatureResult(feature=name, error_message="NONE") for name in names]
        return response

    async def _update(self, updates: list[FeatureUpdate], validate_only: bool) -> Problem | None:
        try:
            problem: Problem | None = await self.submit(
                lambda controller, _: controller.update_features(updates, validate_only=validate_only)
            )
        except KafkaError as error:
            return Problem.of(error)
        return problem


def _update(version: int, update: FeatureUpdateKey) -> FeatureUpdate:
    upgrade_type = update.upgrade_type
    if version == 0:
        upgrade_type = UpgradeType.SAFE_DOWNGRADE if update.allow_downgrade else UpgradeType.UPGRADE
    return FeatureUpdate(name=update.feature, level=update.max_version_level, upgrade_type=upgrade_type)
