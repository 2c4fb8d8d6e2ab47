"""What commands ask a cluster for, over the client's connections: one request or a few, answered as plain structs.

Every broker is asked at most once for what only it knows; what one of several answers cannot be had is said with the
rest, not instead of it.
"""
