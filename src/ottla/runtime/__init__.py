"""What every shell stands on: the event loop, the clock, supervised tasks, logging."""
