"""One module per verb (the short ones share `lifecycle`). `orchestrator.cli.main.VERBS` is their table."""
