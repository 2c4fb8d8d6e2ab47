"""The controller: the replicated machine that decides everything written to the metadata log.

``machine`` is the machine, ``state`` what it decides from; then one module a subject: ``topics``, ``partitions``,
``placement``, ``leadership``, ``isr``, ``brokers``, ``configs``, ``features``, ``producer_ids``, ``activation``.
"""

from ottla.metadata.controller.machine import Controller
from ottla.metadata.controller.state import ControllerSettings, Problem

__all__ = ["Controller", "ControllerSettings", "Problem"]
