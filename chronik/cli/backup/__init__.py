"""The commands of backups and restores. Open `group` first: it has the two groups and what is in them."""
