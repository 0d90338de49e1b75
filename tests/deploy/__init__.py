"""Tests of forge.deploy."""
