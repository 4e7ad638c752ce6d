"""Files read once into memory-mapped blocks, kept by content."""
