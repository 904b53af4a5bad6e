"""How the operator has a say in which pods are replaced, and when: holds, deletes and lets go (`replacing`).

What is decided is decided in `chronik.rollout`; here it is asked, and carried out.
"""
