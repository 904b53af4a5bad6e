"""An API server in the process: what a kube-apiserver does, as far as chronik can tell. Open `server.py` first."""
