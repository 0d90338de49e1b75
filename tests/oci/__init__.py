"""Tests of forge.oci."""
