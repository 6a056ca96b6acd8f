"""What acts on a running system from outside of it: the control socket, and what is answered there."""
