"""What comes from outside, before it is used: types, addresses, kubeconfig files, answers of the API server.

May import the root modules and `documents`. Open `shapes.py` first.
"""
