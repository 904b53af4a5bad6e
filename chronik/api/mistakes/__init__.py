"""What people most likely meant by what a document says wrongly: start with `unknown_fields`."""
