"""Objectives: what is trained and with which loss."""
