"""Frozen values: what a stack is, after the compose format and before the kernel. No behaviour beyond refinement."""
