"""Consumer groups of the next generation (KIP-848): members heartbeat, the coordinator assigns and reconciles."""
