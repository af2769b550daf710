"""Steps of a program as operations for the starter (docs/monitor-protocol.md, "The starter"): system calls, no more.

Each function of `outer` and `inner` does what the method of its name in `stage1` and `final` does, if nothing is the
matter; what is, those two find out again and say. A step that is not there, or asks for more, is `NotSaid`: the whole
program is theirs then.
"""
