"""From layer descriptions to torch modules, and losses."""
