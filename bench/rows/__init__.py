"""One file a family of rows; each has `measure(setting)`, which yields them as they are taken."""
