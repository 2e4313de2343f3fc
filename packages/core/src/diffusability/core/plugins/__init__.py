"""The door to plugins, their summaries, and the template of a new one."""
