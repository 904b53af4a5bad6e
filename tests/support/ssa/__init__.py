"""Server-side apply as the API server does it: field sets, schemas, ownership. Open `server_side_apply.py` first."""
