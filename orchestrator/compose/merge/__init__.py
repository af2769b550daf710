"""Many files to one model, by the table: include, extends, reset, and one file over another."""
