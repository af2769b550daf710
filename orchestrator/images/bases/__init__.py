"""`pystack image make`: bases without a registry (docs/images.md, "Bases").

    make         the way: a kind's tree -> one reproducible layer -> a record in the store, named
    recipes      what makes Debian's packages usable as the public image of a name; `names`: which recipe a reference wants
    debian       packages -> tree, without running a maintainer script: `apt` solves and fetches, `dpkg` is the database,
                 `system` what else scripts would have made
    busybox      a static program and a link for each of its applets
    alpine       a file system in a PyPI wheel: `qcow2` and `ext4` read it, nothing is mounted
    machine      this machine's own /usr, copied
"""
