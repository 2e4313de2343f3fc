"""Single measures as functions, for notebooks and loops of one's own."""
