"""The parent of all containers of a project: a small process that must not crash.

Standard library and `orchestrator.kernel` only. It makes processes, reaps them, moves their logs and writes the journal of
exits; it decides nothing. docs/monitor-protocol.md is its interface.
"""
