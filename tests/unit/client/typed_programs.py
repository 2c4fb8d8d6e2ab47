"""What programs look like to a type checker in strict mode: never run, checked with the sources (`[tool.mypy]`)."""

from ottla.client import Admin, ConfigResource, Consumer, KafkaError, NewTopic, Plain, Producer, Tls, TopicPartition
from ottla.client.sync import Admin as SyncAdmin
from ottla.client.sync import Consumer as SyncConsumer
from ottla.client.sync import Producer as SyncProducer


async def main() -> None:
    async with Producer("localhost:9092", tls=Tls(ca_file="x"), sasl=Plain("a", "b"), transactional_id="x") as producer:
        metadata = await producer.send("orders", key=b"42", value=b"...")
        offset: int = metadata.offset
        receipt = await producer.send_soon("orders", b"x")
        print((await receipt).partition + offset)
        async with producer.transaction():
            await producer.send_many("orders", [b"1", (b"k", b"v")])
            async with Consumer("localhost:9092", group="g", topics=["a"]) as consumer:
                async for record in consumer:
                    value: bytes | None = record.value
                    print(value)
                await producer.send_offsets({TopicPartition("a", 1): 3}, consumer.group_metadata())
    async with Admin("localhost:9092") as admin:
        for name, result in (await admin.create_topics([NewTopic("x")])).items():
            if isinstance(result, KafkaError):
                print(name, result.retriable, result.abortable, result.fatal)
            else:
                print(result.partitions)
        await admin.alter_configs({ConfigResource("topic", "x"): {"retention.ms": None}})


def blocking() -> None:
    with SyncProducer.from_config({"bootstrap.servers": "x"}) as producer:
        n: int = producer.send("t", b"v").offset
        m: int = producer.send_soon("t").result().offset + n
        with producer.transaction() as inner:
            inner.flush()
    with SyncConsumer("x", topics=["t"]) as consumer:
        for record in consumer:
            print(record.offset + m)
    with SyncAdmin("x") as admin:
        admin.list_topics()
