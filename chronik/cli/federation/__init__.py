"""The command line of federations: how members are, and what each of them gets as files."""
