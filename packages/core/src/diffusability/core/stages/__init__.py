"""Runs the stages of a plan and keeps what they leave behind."""
