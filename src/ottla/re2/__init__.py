"""Regular expressions as ``com.google.re2j`` reads them, matched against whole texts. Pure; no backtracking.

Apache Kafka takes such expressions for the topics of consumer groups and for the transactional ids of ListTransactions.
``syntax`` reads one, ``characters`` knows what its classes hold, ``matcher`` follows all its states at once.
"""

from ottla.re2.matcher import Matcher, select
from ottla.re2.syntax import InvalidRegex, compile_regex

__all__ = ["InvalidRegex", "Matcher", "compile_regex", "select"]
