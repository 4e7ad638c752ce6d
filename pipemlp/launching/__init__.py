"""Launcher command lines; starting, watching and stopping processes; host files. It imports no torch."""
