"""The shell around the machines: a node assembled by hand, its dispatch, its partitions, its handlers."""
