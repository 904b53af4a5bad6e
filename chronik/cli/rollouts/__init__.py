"""The commands about canaries: by an operator, or by hand where there is none. Open `group` first."""
