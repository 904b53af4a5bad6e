"""What is said of federations and their members: words, tables, JSON."""
