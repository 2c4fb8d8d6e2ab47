"""Groups: what one ``__consumer_offsets`` partition decides. Pure: time, randomness and storage come from outside."""
