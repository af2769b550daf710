"""``pystack chaos``: faults on purpose (docs/chaos.md)."""

from __future__ import annotations

from orchestrator.cli.table.shapes import FORMAT, TEXT, Argument, Option, Verb
from orchestrator.values import replace

_FOR = Option("--for", "lasting", "When it ends by itself: 30s, 5m; 0: not.  [default: 60s]", TEXT, "TIME")
_ONE_WAY = Option("--one-way", "one_way", "Only what A sends to B.")
_A = Argument("on", "A", required=True)
_A_B_AMOUNT = "A and B are services, or containers; B may be `outside`: all that is not of the project."

_LIST = Verb(
    "ls",
    "chaos",
    "List the faults that stand.",
    "List the faults that stand, and how long they will yet.",
    options=(FORMAT,),
    function="list_",
)

VERBS = (
    Verb(
        "cut",
        "chaos",
        "Drop all packets between A and B.",
        f"Drop all packets between A and B. {_A_B_AMOUNT}",
        options=(_FOR, _ONE_WAY),
        arguments=(_A, Argument("to", "B", required=True)),
    ),
    Verb(
        "loss",
        "chaos",
        "Drop some packets between A and B.",
        f"Drop packets between A and B by chance, such as 20% of them. {_A_B_AMOUNT}",
        options=(_FOR, _ONE_WAY),
        arguments=(_A, Argument("to", "B", required=True), Argument("amount", "SHARE%", required=True)),
    ),
    Verb(
        "lag",
        "chaos",
        "Hold packets back.",
        f"Hold packets between A and B back, such as for 100ms; without B all that A sends and receives. {_A_B_AMOUNT} The "
        "kernel needs sch_netem.",
        options=(_FOR, _ONE_WAY, Option("--jitter", "jitter", "Give or take so much, by chance.", TEXT, "TIME")),
        arguments=(_A, Argument("rest", "[B] TIME", many=True, required=True)),
    ),
    Verb(
        "rate",
        "chaos",
        "Limit how fast packets pass.",
        f"Let only so much pass between A and B, such as 1mbit a second; without B of all that A sends and receives. "
        f"{_A_B_AMOUNT}",
        options=(_FOR, _ONE_WAY),
        arguments=(_A, Argument("rest", "[B] RATE", many=True, required=True)),
    ),
    Verb(
        "dns-fail",
        "chaos",
        "Let the name server fail for A.",
        "Answer A's questions for NAME, or all of them, with SERVFAIL.",
        options=(_FOR, Option("--timeout", "silent", "Do not answer at all.")),
        arguments=(_A, Argument("rest", "[NAME]", many=True)),
        function="dns_fail",
    ),
    Verb(
        "pause",
        "chaos",
        "Let A stand still for a while.",
        "Let the processes of A stand still for a while.",
        options=(_FOR,),
        arguments=(_A,),
    ),
    Verb(
        "kill",
        "chaos",
        "Let A crash.",
        "Send a signal to A's main process. What follows is what follows a crash: the restart policy decides.",
        options=(Option("-s --signal", "signal", "The signal to send.  [default: SIGKILL]", TEXT, "SIGNAL"),),
        arguments=(_A,),
    ),
    Verb(
        "oom",
        "chaos",
        "Let A run out of memory.",
        "Let the kernel's OOM killer end A's main process: for a moment its memory is limited to less than it has. What "
        "follows is what follows a crash: the restart policy decides.",
        arguments=(_A,),
    ),
    _LIST,
    replace(_LIST, name="list", summary="The same as `ls`."),
    Verb(
        "undo",
        "chaos",
        "End faults now.",
        "End faults now.",
        options=(Option("-a --all", "everything", "All that stand."),),
        arguments=(Argument("faults", "[FAULT]...", many=True),),
    ),
    Verb(
        "run",
        "chaos",
        "Carry out the stack's script of faults.",
        """Carry out `x-pystack.chaos` of the stack, and undo it at Ctrl-C.

        It ends when the last fault has, and with `every` in the script never.
        """,
    ),
)
