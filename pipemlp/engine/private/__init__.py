"""DeepSpeed's and torch's private names, touched here only, so that an upgrade has one place to break."""
