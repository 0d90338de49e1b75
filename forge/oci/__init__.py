"""OCI images: layers, manifests, layouts, validation."""
