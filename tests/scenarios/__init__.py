"""Transcripts: what a person types, and what they must get to see."""
