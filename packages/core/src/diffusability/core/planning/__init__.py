"""From YAML to a checked plan: source, extends, overlay, plan, check, schema."""
