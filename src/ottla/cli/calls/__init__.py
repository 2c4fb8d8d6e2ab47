"""What several commands ask of a cluster, through the client's ``Admin``, as the rows they show."""
