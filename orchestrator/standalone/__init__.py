"""`pystack-oci`: the OCI runtime's command line (docs/oci-cli.md), without project, monitor or supervisor."""
