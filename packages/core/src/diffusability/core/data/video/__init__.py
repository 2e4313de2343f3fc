"""Clips: exact frames of video files."""
