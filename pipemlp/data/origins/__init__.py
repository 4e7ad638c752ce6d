"""Where rows come from: bundled data, the teacher, files, plug-ins."""
