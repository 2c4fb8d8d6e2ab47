"""Classic groups: membership by JoinGroup and SyncGroup, assignment computed by the leading member."""
