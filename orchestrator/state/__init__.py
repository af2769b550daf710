"""What survives on disk: directories, locks, records, volumes and the event log. Standard library and `trio`-free, so that
`ps` and `logs` can read it without a supervisor."""
