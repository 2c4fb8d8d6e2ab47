"""The usual answer of a fetch session: records of one partition. Who writes it and who reads it share its mold."""

from ottla.model import Uuid
from ottla.wire.apis import ApiKey
from ottla.wire.messages.fetch_response import FetchableTopicResponse, FetchResponse, PartitionData
from ottla.wire.mold import AnswerMold


def fetch_mold(version: int, session_id: int, topic_id: Uuid, partition: int, *, looks_for_aborted: bool) -> AnswerMold:
    """Its numbers are high watermark, last stable offset and log start offset. From version 13 on, which names topics
    by id; ``looks_for_aborted``: for readers of committed records, who get an empty list where others get none."""

    def answer(high_watermark: int, last_stable_offset: int, log_start_offset: int) -> FetchResponse:
        data = PartitionData(
            partition_index=partition,
            high_watermark=high_watermark,
            last_stable_offset=last_stable_offset,
            log_start_offset=log_start_offset,
            aborted_transactions=[] if looks_for_aborted else None,
            records=b"",
        )
        topic = FetchableTopicResponse(topic_id=topic_id, partitions=[data])
        return FetchResponse(session_id=session_id, responses=[topic])

    return AnswerMold(ApiKey.FETCH, version, "qqq", answer, records=True)
