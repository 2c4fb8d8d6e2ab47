"""The declarative configuration table and everything read from it: values of components, descriptions, the docs page.

Kafka's names, types and defaults are the facts of Apache Kafka 4.3.1; law 8 of the project asks for this one table.
"""
