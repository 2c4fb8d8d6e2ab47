"""The names of the topics that belong to the brokers themselves; ``metadata.image.INTERNAL_TOPICS`` is their set."""

CONSUMER_OFFSETS = "__consumer_offsets"
TRANSACTION_STATE = "__transaction_state"
SHARE_GROUP_STATE = "__share_group_state"
