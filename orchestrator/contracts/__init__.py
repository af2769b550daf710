"""The line between deciding and doing: Protocols, and the values that cross them.

Nothing above this line knows Linux, nothing below it knows Compose. The scheduler sees only these; `runtime`, `network`,
`images` and `state` implement them, and so do the fakes in `testing`, which pass the same conformance checks.
"""
