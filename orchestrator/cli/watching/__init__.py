"""Watching files (docs/watch.md): what changed, what it means for whom, and doing that."""
