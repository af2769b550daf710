"""The project's supervisor: one trio process per project, the only place that sees the scheduler *and* the adapters.

It is crash-only: starting fresh and recovering from ``kill -9`` are the same path (`main`), and it may end at any moment
without a container noticing.
"""
