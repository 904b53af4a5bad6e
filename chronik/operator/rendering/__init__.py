"""What the operator renders clusters with, which may change while it runs. Start with `rendering`."""
