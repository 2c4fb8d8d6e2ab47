"""Ottla: Apache Kafka, the whole platform, in one ``pip install``."""

__version__ = "0.1.0"
